"""Label maps as training reads them: numbers of classes, or colors that stand for them."""
from collections.abc import Sequence

from mmseg.datasets.transforms import LoadAnnotations as MMSegLoadAnnotations

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.label_colors import Color, LabelColors, UnknownColorError
from mae_backbone.formats.label_map_files import read_colors
from mae_backbone.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadAnnotations(MMSegLoadAnnotations):
    """mmseg's `LoadAnnotations`, which also reads label maps in colors.

    Maps with one number a pixel, those with a palette of their own among them, are read as mmseg does. The classes of
    colors are numbered by their place in `palette`; `reduce_zero_label` is for numbers alone.

    Args:
        palette: (red, green, blue) of each class; None where there are no colors.
        ignored: colors of pixels of no class.
        options: as in mmseg's.

    Raises:
        BadImageError: a map has colors of no class, when it is read.
        ValueError: the palette makes no sense.
    """

    def __init__(self, palette: Sequence[Color] | None = None, ignored: Sequence[Color] = (), **options) -> None:
        super().__init__(**options)
        self.colors = LabelColors(palette, ignored) if palette else None

    def _load_seg_map(self, results: dict) -> None:
        try:
            labels = None if self.colors is None else read_colors(results['seg_map_path'], self.colors)
        except UnknownColorError as error:
            raise BadImageError(f'{results["seg_map_path"]} holds {error}: add them to classes.txt or correct '
                                'it') from error
        if labels is None:
            super()._load_seg_map(results)
            return
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
