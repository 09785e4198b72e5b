"""Checks of numbers, speed and memory on a GPU. Most of them need torch and timm only."""
from mae_backbone.benchmark.gpu.command import run

__all__ = ['run']
