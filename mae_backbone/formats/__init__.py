"""Data sets on disk: one module per format."""
