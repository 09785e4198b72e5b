"""COCO's format under other names, as other programs export it."""
import json
from pathlib import Path

import pytest
from helpers.layouts import SCENES, coco_dict, expected, objects_of, scene

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import coco_variants
from mae_backbone.formats.layouts.registry import find_layout

# Program -> annotation file of a split, and folder of its images.
VARIANTS = {
    'Roboflow': ('{folder}/_annotations.coco.json', '{folder}'),
    'names of splits': ('annotations/instances_{split}2017.json', '{split}2017'),
    'next to folders': ('{split}.json', 'images/{split}'),
}


def write(root: Path, split: str, file: str, images: str, *, prefix: str = '', **options) -> None:
    for name, (size, shapes) in SCENES[split].items():
        scene(root / images / name, size, shapes)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(coco_dict(SCENES[split], folder=prefix, **options)))


@pytest.mark.parametrize('program', VARIANTS)
def test_splits_are_in_names_of_files_and_folders(tmp_path: Path, program: str) -> None:
    for split, folder in (('train', 'train'), ('val', 'valid')):
        write(tmp_path, split, *(part.format(split=split, folder=folder) for part in VARIANTS[program]))
    assert find_layout(tmp_path) is coco_variants.LAYOUT
    labeled = coco_variants.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert labeled.content('val')['annotations'][0]['segmentation'] == [[10, 10, 45, 10, 45, 45, 10, 45]]


@pytest.mark.parametrize(('file', 'images', 'prefix'), [
    ('result.json', 'images', 'images/'),                              # Label Studio
    ('result.json', 'images', 'images\\'),                             # Label Studio on Windows
    ('annotations/instances_default.json', 'images/default', ''),      # CVAT
    ('data.json', '.', '')])
def test_one_file_has_no_split(tmp_path: Path, file: str, images: str, prefix: str) -> None:
    write(tmp_path, 'train', file, images, prefix=prefix, first_category=0)
    labeled = coco_variants.read(tmp_path)
    assert labeled.splits == {''}
    assert labeled.category_ids == [0, 1]
    assert sum(len(image.objects) for image in labeled.images) == 3


def test_classes_of_files_in_another_order_are_joined_by_name_and_parents_are_dropped(tmp_path: Path) -> None:
    for split, folder in (('train', 'train'), ('val', 'valid')):
        write(tmp_path, split, f'{folder}/_annotations.coco.json', folder)
    path = tmp_path / 'valid/_annotations.coco.json'
    content = json.loads(path.read_text())
    content['categories'] = [dict(id=2, name='red', supercategory='colors'), dict(id=0, name='colors'),
                             dict(id=1, name='blue', supercategory='colors')]
    content['annotations'][0]['category_id'] = 2
    path.write_text(json.dumps(content))
    labeled = coco_variants.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert labeled.names == ['red', 'blue']
    assert labeled.content('val')['categories'] == labeled.content('train')['categories']


def test_group_with_the_name_of_one_of_its_classes_is_dropped(tmp_path: Path) -> None:
    for split in SCENES:
        write(tmp_path, split, f'{split}/_annotations.coco.json', split)
        path = tmp_path / split / '_annotations.coco.json'
        content = json.loads(path.read_text())
        content['categories'].insert(0, dict(id=0, name='red', supercategory='none'))
        path.write_text(json.dumps(content))
    labeled = coco_variants.read(tmp_path)
    assert objects_of(labeled) == expected()
    assert any('the name of another class, which are dropped: 2 (red, red)' in line for line in labeled.notes.lines())


def test_ids_that_several_files_share_are_numbered_again(tmp_path: Path) -> None:
    write(tmp_path, 'train', 'a.json', 'images')
    write(tmp_path, 'val', 'b.json', 'images')
    content = coco_variants.read(tmp_path).content('')
    assert [image['id'] for image in content['images']] == [1, 2, 3, 4]
    assert [annotation['id'] for annotation in content['annotations']] == [1, 2, 3, 4]
    assert [annotation['image_id'] for annotation in content['annotations']] == [1, 1, 2, 4]


def test_missing_and_repeated_images_are_named(tmp_path: Path) -> None:
    write(tmp_path, 'val', 'a.json', 'images')
    (tmp_path / 'b.json').write_text((tmp_path / 'a.json').read_text())
    with pytest.raises(DataError, match=r'b\.json names the image images/c\.JPG, which .*a\.json names as well'):
        coco_variants.read(tmp_path)
    content = json.loads((tmp_path / 'a.json').read_text())
    content['images'].append(content['images'][0] | dict(id=99))
    (tmp_path / 'a.json').write_text(json.dumps(content))
    with pytest.raises(DataError, match=r'a\.json lists the image images/c\.JPG more than once'):
        coco_variants.read(tmp_path)
    write(tmp_path, 'val', 'a.json', 'images')
    (tmp_path / 'images/c.JPG').unlink()
    scene(tmp_path / 'images/d.jpg', (4, 4))
    with pytest.raises(DataError, match=r'1 of the 1 images in .*a\.json do not exist .*\(c\.JPG\)'):
        coco_variants.read(tmp_path)
