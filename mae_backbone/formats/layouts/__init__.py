"""Readers of the layouts in which labeling programs and other libraries store boxes and polygons.

Each file reads one layout into a `LabeledSet`, which is then written as a COCO file. Everything else in this package,
mmdet and the metrics read that file.
"""
