"""SOAP 1.1 at the edges that need it: how rpc operations are declared, called and refused."""
