"""Loading of label maps for training: labels in numbers, or colors that are mapped to labels."""
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmseg.datasets.transforms import LoadAnnotations as MMSegLoadAnnotations

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.label_colors import Color, LabelColors, UnknownColorError
from mae_backbone.formats.label_map_files import read_colors
from mae_backbone.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadAnnotations(MMSegLoadAnnotations):
    """mmseg's `LoadAnnotations`, extended by label maps in colors.

    Maps with one number per pixel are read as mmseg does, and also images with a palette of their own, unless it has
    colors of the classes. The label of a color is its index in `palette`; `reduce_zero_label` applies to numbers only.

    Args:
        palette: (red, green, blue) of each class; None if there are no colors.
        ignored: colors of pixels of no class.
        new_labels: the label that replaces each label 0, 1, ..., such as [2, 0, 1]; None keeps them.
        options: arguments of mmseg's `LoadAnnotations`.

    Raises:
        BadImageError: a map has colors that no class has; raised when the map is read.
        ValueError: the palette is invalid.
    """

    def __init__(self, palette: Sequence[Color] | None = None, ignored: Sequence[Color] = (), *,
                 new_labels: Sequence[int] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.new_labels = None if new_labels is None else np.arange(256, dtype=np.uint8)
        if self.new_labels is not None and new_labels is not None:
            self.new_labels[:len(new_labels)] = new_labels
        self.colors = LabelColors(palette, ignored) if palette else None

    def _load_seg_map(self, results: dict) -> None:
        self._load_labels(results)
        if self.new_labels is not None:
            results['gt_seg_map'] = self.new_labels[results['gt_seg_map']]

    def _load_labels(self, results: dict) -> None:
        path = results['seg_map_path']
        try:
            labels = None if self.colors is None else read_colors(path, self.colors)
        except UnknownColorError as error:
            raise BadImageError(f'{path} has {error}: add them to classes.txt, or correct the map') from error
        if labels is None:
            super()._load_seg_map(results)
            return
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
