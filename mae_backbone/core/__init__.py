"""The model: torch and timm only."""
