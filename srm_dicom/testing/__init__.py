"""Shipped for tests of plugins and sites: PluginContract, a test PKI, PacsSimulator, FakeClock."""
