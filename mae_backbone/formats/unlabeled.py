"""Format of unlabeled images for pretraining: folders, lists of paths, or shards."""
import os
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from mmengine.registry import TRANSFORMS

from mae_backbone.data.bit_depth import bit_depth_warning
from mae_backbone.data.sources import FileSource, Source, open_source
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.layouts.map_pairs import pairs_among
from mae_backbone.formats.messages import does_not_exist

_COLOR_READERS = ('ColorReader', 'ColourReader')
_SAMPLED = 16  # number of images whose pixels are read


class UnlabeledImages(DataFormat):
    """Images of `mae_backbone.UnlabeledImages`."""

    dataset_types: ClassVar = {'UnlabeledImages': ()}

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Counts the images. Raises DataError if the folder does not exist, ValueError if it has no images."""
        return [f'{self.spec.split}: {len(self._source):,} images',
                *(f'warning: {line}' for line in self.label_warnings())]

    def label_warnings(self) -> list[str]:
        """Warns of label maps among the images."""
        source = self._source
        if not isinstance(source, FileSource):
            return []
        pairs = pairs_among([source.name(index) for index in range(len(source))])
        return [f'{len(pairs):,} of the {len(source):,} images are label maps, such as {pairs[0].map} of the image '
                f'{pairs[0].image}: pass the folder of the images'] if pairs else []

    def images(self) -> list[str]:
        source, reader = self._source, self._reader()['type']
        if not isinstance(source, FileSource):
            raise DataError(f'{self.spec.split}: shards are read when they are packed, expected a folder or a list of '
                            'images: pass it with --data-root DIR')
        if str(reader).split('.')[-1] not in _COLOR_READERS:
            raise DataError(f'{self.spec.split}: images of {reader} are not color images, which are all that is '
                            'checked; `mae-backbone measure` reads them')
        return [source.name(index) for index in range(len(source))]

    def statistics(self, pixel_counts: np.ndarray) -> list[str]:
        scaled = self._reader().keys() & {'value_range', 'percentiles'}
        warning = '' if scaled else bit_depth_warning(evenly_spaced(self.images(), _SAMPLED))
        return [warning] if warning else []

    @cached_property
    def _source(self) -> Source:
        root = self.spec.option('data_root')
        if isinstance(root, str) and not os.path.exists(root):
            raise DataError(f'{does_not_exist(root)}: pass a folder of images, a list of paths or shards with '
                            '--data-root DIR')
        if not isinstance(root or '', (str, list, tuple)):
            raise DataError(f'data_root={root!r} of the {self.spec.split} set, expected a folder, a list of files or '
                            'shards: pass it with --data-root DIR')
        return open_source(root or '', suffixes=TRANSFORMS.build(self._reader()).suffixes)

    def _reader(self) -> dict[str, Any]:
        return self.spec.option('reader') or dict(type='mae_backbone.ColorReader')
