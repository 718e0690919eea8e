"""Hydra's wire contract: what the key servers and their clients speak."""
