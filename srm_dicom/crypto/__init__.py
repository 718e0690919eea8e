"""Pure cryptography: Crypt4GH, its deterministic sealing, Shamir shares, signed records."""
