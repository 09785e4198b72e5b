"""Hooks of MMEngine for training: logging, checkpoints, measurements, schedules and figures."""
