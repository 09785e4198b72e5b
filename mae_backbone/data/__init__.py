"""Finds, reads, decodes and crops image files, and makes batches of them.

Color images are returned as uint8 in RGB, 0 to 255. The data preprocessor of the model normalizes them on its device.
"""
