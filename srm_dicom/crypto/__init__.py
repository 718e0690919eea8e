"""Cryptography without I/O: containers, deterministic sealing, shares, signatures and boxes.

Every primitive comes from `cryptography`; what is ours is the arrangement. Nothing here reads a clock,
draws randomness or opens a file: keys, nonces and randomness are arguments.
"""
