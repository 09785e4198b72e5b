"""Benchmarks of speed and memory against reference implementations of the same work."""
