"""Layouts that are tried in turn."""
import json
from pathlib import Path

import pytest
from helpers.layouts import (
    Shape,
    cvat_element,
    scene,
    voc_xml,
    write_createml,
    write_csv,
    write_jsonl,
    write_labelme,
    write_via,
    write_voc,
)

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


def test_names_of_classes_without_an_object_are_refused(tmp_path: Path) -> None:
    scene(tmp_path / 'images/a.jpg', (4, 4))
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a.txt').write_text('')
    (tmp_path / 'data.yaml').write_text('train: images\nnames: [red]\n')
    with pytest.raises(DataError, match=r'none of the 1 images has an object in its labels'):
        read_layout(tmp_path)


@pytest.mark.parametrize(('write', 'name'), [
    (write_voc, 'Annotations/c.xml'), (write_labelme, 'val/c.json'), (write_csv, 'val.csv'),
    (write_via, 'val/a.json'), (write_jsonl, 'val/a.jsonl'), (write_createml, 'val/a.json')])
@pytest.mark.parametrize(('content', 'fault'), [
    (b'', 'is empty: copy or export it again'), ('<annotation/>'.encode('utf-16'), 'is not text in UTF-8: save it')])
def test_a_file_that_is_empty_or_not_utf_8_is_named(tmp_path: Path, write, name: str, content: bytes,
                                                    fault: str) -> None:
    write(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f'{name} {fault}'):
        read_layout(tmp_path)


@pytest.mark.parametrize('kind', ['csv', 'xml', 'json'])
def test_all_files_of_labels_are_read(tmp_path: Path, kind: str) -> None:
    for index in range(30):
        name = f'{index:02d}'
        scene(tmp_path / f'{name}.png', (20, 20))
        (tmp_path / f'{name}.{kind}').write_text({
            'csv': f'filename,xmin,ymin,xmax,ymax,label\n{name}.png,1,1,5,5,red\n',
            'xml': f'<annotations><image id="0" name="{name}.png" width="20" height="20">'
                   f'{cvat_element(Shape("red", (1, 1, 4, 4)))}</image></annotations>',
            'json': json.dumps(dict(
                images=[dict(id=1, file_name=f'{name}.png', width=20, height=20)], categories=[dict(id=1, name='red')],
                annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0)]))}[kind])
    labeled = read_layout(tmp_path)
    assert labeled is not None
    assert len(labeled.images) == 30


def test_labels_without_an_image_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'a.csv').write_text('filename,xmin,ymin,xmax,ymax,label\n')
    scene(tmp_path / 'a.png', (20, 20))
    with pytest.raises(DataError, match='the labels, which have the layout of CSV with boxes, name no image'):
        read_layout(tmp_path)
