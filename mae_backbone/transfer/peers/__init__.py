"""Peers: common models, trained from scratch for a given CPU time on the same labels and seeds."""
