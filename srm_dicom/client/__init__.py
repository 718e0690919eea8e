"""Every service of the house over its wire; what worker nodes import."""
