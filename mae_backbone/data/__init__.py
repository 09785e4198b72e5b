"""Image files to tensors.

Images leave this folder as uint8 in RGB, 0 to 255: the model's data preprocessor normalizes them on its device.
"""
