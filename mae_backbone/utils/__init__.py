"""Helpers that depend on neither models nor data."""
