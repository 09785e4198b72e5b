"""Data sets of mmdet, as references for what this package counts."""
import contextlib
import io
from pathlib import Path

from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset


def coco_dataset(path: Path, **options) -> BaseDataset:
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build(dict(
            type='CocoDataset', ann_file=str(path), data_prefix=dict(img=str(path.parent.parent / 'train')),
            metainfo=dict(classes=('cell', 'nucleus')), **options))
