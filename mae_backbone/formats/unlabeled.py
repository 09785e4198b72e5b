"""Unlabeled images for pretraining: folders, lists of paths, or shards."""
import os
from typing import ClassVar

from mmengine.registry import TRANSFORMS

from mae_backbone.data.sources import open_source
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.messages import does_not_exist


class UnlabeledImages(DataFormat):
    """Images of `mae_backbone.UnlabeledImages`."""

    dataset_types: ClassVar = {'UnlabeledImages': ()}

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Counts the images. Raises DataError if the folder does not exist, ValueError if it has no images."""
        root = self.spec.option('data_root')
        reader = self.spec.option('reader') or dict(type='mae_backbone.ColorReader')
        if isinstance(root, str) and not os.path.exists(root):
            raise DataError(f'{does_not_exist(root)}: pass a folder of images, a list of paths or shards with '
                            '--data-root DIR')
        if not isinstance(root or '', (str, list, tuple)):
            raise DataError(f'data_root={root!r} of the {self.spec.split} set, expected a folder, a list of files or '
                            'shards: pass it with --data-root DIR')
        source = open_source(root or '', suffixes=TRANSFORMS.build(reader).suffixes)
        return [f'{self.spec.split}: {len(source):,} images']
