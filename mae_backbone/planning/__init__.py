"""Adaptation of configs to a user's data, and reports about data."""
