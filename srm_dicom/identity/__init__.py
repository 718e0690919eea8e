"""Who is calling: verified chains and tokens become a `Principal`."""
