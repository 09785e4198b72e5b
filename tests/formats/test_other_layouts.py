from pathlib import Path

import pytest

from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.other_layouts import describe_layout

FILES = {
    'Supervisely': {'meta.json': '{"classes": [{"title": "cat", "shape": "polygon"}], "tags": []}',
                    'ds0/ann/a.jpg.json': '{}', 'ds0/img/a.jpg': ''},
    'CVAT for video': {'annotations.xml': '<annotations><track id="0" label="cat"></track></annotations>'},
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding='utf-8')


@pytest.mark.parametrize('program', FILES)
def test_missing_annotation_file_names_the_layout_and_the_export(tmp_path: Path, program: str) -> None:
    write(tmp_path, FILES[program])
    message = f'seems to have the layout of {program} .*which is not read: export .*COCO'
    with pytest.raises(DataError, match=message) as caught:
        read_coco(str(tmp_path / 'annotations/train.json'), root=str(tmp_path))
    assert len(str(caught.value)) < 900


def test_other_folders_are_not_recognized(tmp_path: Path) -> None:
    write(tmp_path, {'labels/notes.txt': 'labels of 2020', 'x.xml': '<html/>', 'Annotations/a.xml': '<a/>',
                     'meta.json': '[1]', 'sub/meta.json': '{"classes": '})
    assert describe_layout(str(tmp_path)) == ''
    assert describe_layout(str(tmp_path / 'nowhere')) == ''
