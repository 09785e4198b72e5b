"""Checks of numbers, speed and memory on a GPU. Most of them need torch and timm only."""
