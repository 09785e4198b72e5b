"""Peers: common models for comparison, trained from scratch for a given CPU time on the same labels and seeds."""
