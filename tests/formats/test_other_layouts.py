from pathlib import Path

import pytest

from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.other_layouts import describe_layout

FILES = {
    'Pascal VOC': {'Annotations/a.xml': '<annotation><object><name>cat</name></object></annotation>'},
    'YOLO': {'labels/train/a.txt': '0 0.5 0.5 0.25 0.125\n', 'data.yaml': 'names: [cat]'},
    'labelme': {'train/a.json': '{"shapes": [], "imagePath": "a.jpg", "imageData": null}'},
    'CVAT': {'annotations.xml': '<annotations><image id="0" name="a.jpg"></image></annotations>'},
}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding='utf-8')


@pytest.mark.parametrize('program', FILES)
def test_missing_annotation_file_names_the_layout_and_the_conversion(tmp_path: Path, program: str) -> None:
    write(tmp_path, FILES[program])
    with pytest.raises(DataError, match=f'seems to have the layout of {program}.*bbox.*COCO') as caught:
        read_coco(str(tmp_path / 'annotations/train.json'), root=str(tmp_path))
    assert len(str(caught.value)) < 900


def test_other_folders_are_not_recognized(tmp_path: Path) -> None:
    write(tmp_path, {'labels/notes.txt': 'labels of 2020', 'x.xml': '<html/>', 'Annotations/a.xml': '<a/>',
                     'b.json': '[1]', 'c.json': '{"shapes": "'})
    assert describe_layout(str(tmp_path)) == ''
    assert describe_layout(str(tmp_path / 'nowhere')) == ''
