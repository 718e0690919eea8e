"""A whole site on loopback and its story."""
