"""The whole path in minutes, on generated scenes."""
