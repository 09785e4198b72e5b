"""Peers: other implementations of the same work, which a benchmark is measured against."""
