"""Predictions of trained models for images of any size and videos, drawn and written to files."""
