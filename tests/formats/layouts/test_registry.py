"""Layouts that are tried in turn."""
from pathlib import Path

import pytest
from helpers.layouts import scene, voc_xml, write_voc

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.import_data import import_data
from mae_backbone.formats.layouts.registry import read_layout


def test_labels_without_an_object_are_refused(tmp_path: Path) -> None:
    assert read_layout(tmp_path) is None
    assert read_layout(write_voc(tmp_path / 'good')).names == ['blue', 'red']
    scene(tmp_path / 'bad/a.jpg', (4, 4))
    (tmp_path / 'bad/a.xml').write_text(voc_xml((4, 4), []))
    words = r'none of the 1 images has an object in its labels \(a\.jpg\), which have the layout of Pascal VOC'
    with pytest.raises(DataError, match=words):
        read_layout(tmp_path / 'bad')
    with pytest.raises(DataError, match=words):
        import_data(tmp_path / 'bad', tmp_path / 'out', 'coco')
