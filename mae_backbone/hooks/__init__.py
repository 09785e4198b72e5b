"""What a run does beside its training steps."""
