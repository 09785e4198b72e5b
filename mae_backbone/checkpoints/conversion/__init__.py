"""Conversion of checkpoints to the layouts of other libraries."""
