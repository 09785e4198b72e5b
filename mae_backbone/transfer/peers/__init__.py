"""Peers: models that people would pick, trained from scratch for a given CPU time on the same labels and seeds."""
