"""Judging features and predictions."""
