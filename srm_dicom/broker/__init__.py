"""The life of a request: submitted by the front, claimed and staged by a stager, served by the doors."""
