"""A key server (Hydra): one share a key, its own ACLs, its own database; what it holds tells it nothing."""
