"""Images that label files name: paths of this machine, of another one, and wrong ones."""
import json
from pathlib import Path

import pytest
from helpers.layouts import SCENES, coco_dict, labelme_json, scene

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts import coco_variants, labelme
from mae_backbone.formats.layouts.image_index import ImageIndex
from mae_backbone.formats.layouts.labeled_set import Findings


def index_of(root: Path, *names: str, notes: Findings | None = None) -> ImageIndex:
    for name in names:
        scene(root / name, (4, 4))
    return ImageIndex(root, notes)


@pytest.mark.parametrize(('stated', 'image'), [
    ('a.jpg', 'train/a.jpg'), ('./a.jpg', 'train/a.jpg'), ('TRAIN/A.JPG', 'train/a.jpg'),
    ('/home/bob/data/train/a.jpg', 'train/a.jpg'), (r'C:\data\train\a.jpg', 'train/a.jpg'),
    ('data/train2017/a.jpg', 'train/a.jpg'), ('/home/bob/images/a.jpg', 'train/a.jpg'),
    ('/home/bob/val/b.jpg', 'val/b.jpg'), ('x/images/val/b.jpg', 'val/b.jpg'),
    ('../../label-studio/media/upload/1/d.jpg', 'images/d.jpg'), ('data/obj_train_data/e.jpg', 'obj_train_data/e.jpg')])
def test_paths_of_other_machines_are_found_by_their_ends(tmp_path: Path, stated: str, image: str) -> None:
    index = index_of(tmp_path, 'train/a.jpg', 'train/b.jpg', 'val/b.jpg', 'images/d.jpg', 'obj_train_data/e.jpg')
    assert index.find(stated) == image


@pytest.mark.parametrize('stated', ['camA/1.jpg', '/home/bob/camA/1.jpg', r'..\camA\1.jpg', 'val/2.jpg',
                                    'camA/images/1.jpg', 'camA/train/2.jpg'])
def test_image_of_another_folder_is_not_taken_for_the_stated_one(tmp_path: Path, stated: str) -> None:
    index = index_of(tmp_path, 'camB/1.jpg', 'camB/train/2.jpg')
    assert not index.find(stated)
    assert 'has this name, but is in another folder)' in index.reason(stated)


def test_absolute_path_in_the_root_is_found(tmp_path: Path) -> None:
    index = index_of(tmp_path / 'data', 'train/a.jpg', 'val/a.jpg')
    (tmp_path / 'link').symlink_to(tmp_path / 'data')
    for root in (tmp_path / 'data', tmp_path / 'link'):
        assert ImageIndex(root).find(str(root / 'val/a.jpg')) == 'val/a.jpg'
    assert ImageIndex(tmp_path / 'link').find(str(tmp_path / 'data/val/a.jpg')) == 'val/a.jpg'
    assert not index.find(str(tmp_path / 'data/test/a.jpg'))


def test_several_images_with_the_name_are_ambiguous(tmp_path: Path) -> None:
    index = index_of(tmp_path, 'a/1.jpg', 'b/1.jpg')
    for stated in ('1.jpg', 'c/1.jpg'):
        assert not index.find(stated)
        assert index.missing([stated, stated, 'x.jpg']) == (
            f'are not found ({stated} (ambiguous: a/1.jpg, b/1.jpg), x.jpg)')
    assert index.missing(['x.jpg']) == 'do not exist (x.jpg)'


def test_pictures_of_results_are_not_taken_for_the_images(tmp_path: Path) -> None:
    index = index_of(tmp_path, 'photos/1.jpg', 'results/1.jpg', 'results/2.jpg')
    assert index.find('1.jpg') == 'photos/1.jpg'
    assert index.find('2.jpg') == 'results/2.jpg'


def test_images_found_by_name_only_are_noted_once(tmp_path: Path) -> None:
    notes = Findings()
    index = index_of(tmp_path, 'images/1.jpg', notes=notes)
    for _ in range(2):
        index.find('upload/1/1.jpg')
        index.find('images/1.jpg')
        index.find('1.jpg')
    assert notes.lines() == [
        'images found by their file name, in another folder than stated: 1 (upload/1/1.jpg -> images/1.jpg)']


def test_coco_and_labelme_name_the_images_that_they_do_not_take(tmp_path: Path) -> None:
    for folder in ('coco/camB', 'labelme/camB'):
        scene(tmp_path / folder / 'c.JPG', (45, 45))
    (tmp_path / 'coco/a.json').write_text(json.dumps(coco_dict(SCENES['val'], folder='camA/')))
    with pytest.raises(DataError, match=r'1 of the 1 images in .*a\.json are not found below .*\(camA/c\.JPG \(camB/c\.'
                                        r'JPG has this name, but is in another folder\)\): copy them there'):
        coco_variants.read(tmp_path / 'coco')
    (tmp_path / 'labelme/c.json').write_text(labelme_json('camA/c.JPG', (45, 45), []))
    with pytest.raises(DataError, match=r'c\.json \(camB/c\.JPG has this name, but is in another folder\)'):
        labelme.read(tmp_path / 'labelme')
