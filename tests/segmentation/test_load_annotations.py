"""Label maps in colors, as training reads them."""
from pathlib import Path

import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations as MMSegLoadAnnotations
from PIL import Image

from mae_backbone.data.decode import BadImageError
from mae_backbone.registry import TRANSFORMS
from mae_backbone.segmentation.load_annotations import LoadAnnotations

PALETTE, NONE = [(255, 0, 0), (0, 255, 0)], [(0, 0, 0)]


def load(path: Path, transform: MMSegLoadAnnotations, *, reduce_zero_label: bool = False) -> np.ndarray:
    results = transform(dict(seg_map_path=str(path), reduce_zero_label=reduce_zero_label, label_map=None,
                             seg_fields=[]))
    assert results['seg_fields'] == ['gt_seg_map']
    return results['gt_seg_map']


def save(path: Path, pixels: list) -> Path:
    Image.fromarray(np.array(pixels, np.uint8)).save(path)
    return path


def test_transform_is_registered():
    assert isinstance(TRANSFORMS.build(dict(type='mae_backbone.LoadAnnotations', palette=PALETTE)), LoadAnnotations)


@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_colors_become_labels(tmp_path: Path, reduce_zero_label: bool):
    path = save(tmp_path / 'a.png', [[(255, 0, 0), (0, 255, 0)], [(0, 0, 0), (255, 0, 0)]])
    labels = load(path, LoadAnnotations(PALETTE, NONE), reduce_zero_label=reduce_zero_label)
    assert labels.tolist() == [[0, 1], [255, 0]]
    assert labels.dtype == np.uint8


@pytest.mark.parametrize('palette', [None, PALETTE])
@pytest.mark.parametrize('reduce_zero_label', [False, True])
def test_numbers_are_read_as_by_mmseg(tmp_path: Path, palette: list | None, reduce_zero_label: bool):
    path = save(tmp_path / 'a.png', [[0, 1], [2, 255]])
    labels = load(path, LoadAnnotations(palette), reduce_zero_label=reduce_zero_label)
    assert np.array_equal(labels, load(path, MMSegLoadAnnotations(), reduce_zero_label=reduce_zero_label))


def test_unknown_colors_name_the_file(tmp_path: Path):
    path = save(tmp_path / 'a.png', [[(255, 0, 1), (0, 255, 0)]])
    with pytest.raises(BadImageError, match=r'a\.png has 1 colors of no class: #ff0001'):
        load(path, LoadAnnotations(PALETTE))
