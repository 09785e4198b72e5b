"""A config adapted to a user's data."""
