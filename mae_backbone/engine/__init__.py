"""Training loops, runner, optimizer wrapper and distributed training."""
