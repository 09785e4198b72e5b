"""Rules from a fingerprint to settings: one module for the encoder, the lengths, the pixels, and each task."""
