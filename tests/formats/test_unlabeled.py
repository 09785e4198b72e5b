"""Unlabeled images: label maps among them are named."""
from pathlib import Path

import pytest
from helpers.own_sets import write_classes, write_maps
from mmengine.config import ConfigDict

from mae_backbone.formats.dataset_spec import DatasetSpec
from mae_backbone.formats.unlabeled import UnlabeledImages
from mae_backbone.planning.data_warnings import data_warnings
from mae_backbone.planning.find_data import find_data


def warnings_of(root: Path) -> list[str]:
    cfg = ConfigDict(type='mae_backbone.UnlabeledImages', data_root=str(root))
    data_format = UnlabeledImages(DatasetSpec('train', cfg, None))
    lines = data_format.check(masks=False, labels=False)
    assert lines[1:] == [f'warning: {line}' for line in data_format.label_warnings()]
    return lines[1:]


@pytest.mark.parametrize('folders', [('images', 'annotations'), ('x', 'y')])
def test_label_maps_among_the_images_are_warned_of(tmp_path: Path, folders: tuple[str, str]):
    write_maps(tmp_path, train=3, val=2)
    for old, new in zip(('images', 'annotations'), folders, strict=True):
        (tmp_path / old).rename(tmp_path / new)
    [warning] = warnings_of(tmp_path)
    assert '5 of the 10 images are label maps, such as ' in warning
    assert warnings_of(tmp_path / folders[0]) == []
    assert data_warnings(find_data(tmp_path, 'pretraining')) == [warning.removeprefix('warning: ')]


def test_class_folders_have_no_label_maps(tmp_path: Path):
    assert warnings_of(write_classes(tmp_path)) == []
