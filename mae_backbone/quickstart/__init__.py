"""Quickstart: the whole path on generated images, in minutes."""
