"""Annotations and folders that would take gigabytes, hours, or block are refused."""
import json
import os
from pathlib import Path

import pytest
from helpers.small_sets import coco_config, coco_content, label_map_config, write_coco, write_label_maps

from mae_backbone.data.image_header import SETTING
from mae_backbone.formats import coco_json
from mae_backbone.formats.check import check_data
from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.dataset_spec import DataError, dataset_specs
from mae_backbone.formats.image_headers import read_size
from mae_backbone.planning.adapt_config import adapt_classes
from mae_backbone.planning.report import survey

POSIX = pytest.mark.skipif(os.name != 'posix', reason='special files and links')


@pytest.mark.parametrize('number', [2**63, -2**63 - 1, 10**30, 1.0, True])
def test_ids_that_are_no_integers_of_64_bits_are_refused(tmp_path: Path, number: object):
    """Longer ones overflow in pycocotools, and can be chosen so that all have the same hash."""
    content = coco_content()
    content['annotations'][0]['id'] = number
    with pytest.raises(DataError, match="have a 'id' that is not an integer or text"):
        read_coco(str(write_coco(tmp_path, content)))


def test_file_that_needs_more_memory_than_is_free_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(coco_content() | {'licenses': [[]] * 30_000_000}).replace(' ', ''))
    monkeypatch.setattr(coco_json, 'available_memory', lambda: 2**31)
    with pytest.raises(DataError, match=r'would take about 2\.\d GB of memory, and 2\.1 GB are free'):
        read_coco(str(path))


@POSIX
@pytest.mark.parametrize('name', ['a.png', 'a.jpg'])
def test_pipe_named_by_an_annotation_file_does_not_block(tmp_path: Path, name: str):
    write_coco(tmp_path)
    (tmp_path / 'train' / 'a.png').unlink()
    content = coco_content()
    content['images'][0]['file_name'] = name
    write_coco(tmp_path, content)
    (tmp_path / 'train' / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / 'train' / name)
    with pytest.raises(OSError, match=r'is a named pipe \(FIFO\)'):
        read_size(str(tmp_path / 'train' / name))
    cfg = coco_config(tmp_path)
    adapt_classes(cfg)
    with pytest.raises(DataError, match='named pipe'):
        check_data(cfg, splits=['train'])


@POSIX
def test_pipe_in_place_of_a_label_map_does_not_block(tmp_path: Path):
    write_label_maps(tmp_path)
    (tmp_path / 'list.txt').write_text('a\nb\nc\n')
    path = tmp_path / 'annotations/training/a.png'
    path.unlink()
    os.mkfifo(path)
    cfg = label_map_config(tmp_path, ann_file='list.txt')
    adapt_classes(cfg)
    with pytest.raises(DataError, match='named pipe'):
        check_data(cfg, splits=['train'])


def test_label_maps_have_the_limit_of_pixels_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_label_maps(tmp_path)
    monkeypatch.setenv(SETTING, '300')
    cfg = label_map_config(tmp_path)
    adapt_classes(cfg)
    with pytest.raises(DataError, match='the limit is 0'):
        check_data(cfg, splits=['train'])


@POSIX
@pytest.mark.parametrize('target', ['.', '..', 'a/b'])
def test_links_to_a_folder_that_contains_them_are_refused(tmp_path: Path, target: str):
    """Two links in a folder to itself make 2**40 paths, which mmseg would list."""
    write_label_maps(tmp_path)
    folder = tmp_path / 'images/training/a/b'
    folder.mkdir(parents=True)
    for name in ('first', 'second'):
        (folder / name).symlink_to(folder / '..' / '..' / target)
    cfg = label_map_config(tmp_path)
    adapt_classes(cfg)
    with pytest.raises(DataError, match=r'is a link to .*, which contains it'):
        check_data(cfg, splits=['train'])


@POSIX
def test_links_to_other_folders_are_followed(tmp_path: Path):
    write_label_maps(tmp_path)
    for kind in ('images', 'annotations'):
        (tmp_path / kind / 'training').rename(tmp_path / f'real_{kind}')
        (tmp_path / kind / 'training').symlink_to(tmp_path / f'real_{kind}')
    cfg = label_map_config(tmp_path)
    adapt_classes(cfg)
    assert check_data(cfg, splits=['train'])[0].startswith('train: 3 images')


def test_names_of_classes_and_images_take_one_line_of_a_report(tmp_path: Path):
    content = coco_content()
    content['categories'][0]['name'] = 'cell\nerror: \x1b[2J'
    content['images'][0]['file_name'] = 'bad\nerror: fake.png'
    write_coco(tmp_path, content)
    (tmp_path / 'train' / 'bad\nerror: fake.png').write_bytes(b'x')
    cfg = coco_config(tmp_path, masks=False)
    adapt_classes(cfg)
    spec, = dataset_specs(cfg, 'train')
    lines = survey(spec)
    assert not any('\n' in line or '\x1b' in line for line in lines)
    assert any(r'cell\nerror: \x1b[2J' in line for line in lines)
    assert any(r'bad\nerror: fake.png' in line for line in lines)
