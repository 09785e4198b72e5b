"""Formats of labeled data sets on disk: one class per format, listed in `registry.FORMATS`."""
