"""Benchmarks of how well pretrained encoders transfer: suites of tasks, run as jobs, with a report."""
