"""Compatibility with mmcv and other installed distributions."""
