"""Reading, writing and conversion of checkpoints and weight files."""
