"""What programs share that start others and report on what came of it."""
