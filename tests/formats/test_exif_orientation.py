"""Outlines of labels tell whether they were drawn on an image as it is stored or as its EXIF orientation turns it."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.small_sets import coco_config, label_map_config
from PIL import Image

from mae_backbone.data.jpeg_header import upright
from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.exif_orientation import Votes
from mae_backbone.planning.adapt_config import adapt_classes

SIDE = 48


def stored_image(seed: int, *, symmetric: bool = False) -> tuple[np.ndarray, list[int]]:
    """Noise with a bright rectangle, and its box (x, y, width, height)."""
    chance = np.random.default_rng(seed)
    pixels = chance.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    x, y, width, height = (16, 16, 16, 16) if symmetric else (*chance.integers(1, 12, 2), *chance.integers(8, 14, 2))
    pixels[y:y + height, x:x + width] = 230
    return pixels, [int(value) for value in (x, y, width, height)]


def turned_box(box: list[int], orientation: int) -> list[int]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y, width, height = box
    mask[y:y + height, x:x + width] = 1
    return list(cv2.boundingRect(np.ascontiguousarray(upright(mask, orientation))))


def write(root: Path, orientation: int, annotated: str, *, count: int = 12, symmetric: bool = False) -> None:
    images, annotations = [], []
    exif = Image.Exif()
    exif[0x0112] = orientation
    for number in range(1, count + 1):
        pixels, box = stored_image(number, symmetric=symmetric)
        for split in ('train', 'val'):
            (root / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / split / f'{number}.png', exif=exif)
        box = turned_box(box, orientation) if annotated == 'turned' else box
        images.append(dict(id=number, file_name=f'{number}.png', width=SIDE, height=SIDE))
        annotations.append(dict(id=number, image_id=number, category_id=1, bbox=box, area=box[2] * box[3], iscrowd=0))
    for split in ('train', 'val'):
        path = root / 'annotations' / f'{split}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(images=images, annotations=annotations,
                                        categories=[dict(id=1, name='cell')])))


def lines(root: Path) -> list[str]:
    cfg = coco_config(root, masks=False)
    adapt_classes(cfg)
    return [line for line in check_data(cfg, splits=['train']) if 'EXIF' in line]


@pytest.mark.parametrize('orientation', [2, 3, 4, 6])
def test_boxes_drawn_on_the_stored_images_are_refused(tmp_path: Path, orientation: int):
    write(tmp_path, orientation, 'stored')
    with pytest.raises(DataError, match=r'12 of 12 images are .* annotated as they are stored: 1\d'):
        lines(tmp_path)


@pytest.mark.parametrize('orientation', [2, 3, 4, 6])
def test_boxes_drawn_on_the_turned_images_are_found_to_fit(tmp_path: Path, orientation: int):
    write(tmp_path, orientation, 'turned')
    (line,) = lines(tmp_path)
    assert 'labels fit the result (1' in line
    assert line.endswith(': 12')


@pytest.mark.parametrize(('count', 'symmetric'), [(3, False), (12, True)])
def test_what_the_images_do_not_show_is_said(tmp_path: Path, count: int, symmetric: bool):
    write(tmp_path, 3, 'stored', count=count, symmetric=symmetric)
    (line,) = lines(tmp_path)
    assert 'which the images do not show: look at the samples of `mae-backbone check`' in line
    assert line.endswith(f': {count}')


@pytest.mark.parametrize('annotated', ['stored', 'turned'])
def test_label_maps_are_compared_too(tmp_path: Path, annotated: str):
    (tmp_path / 'classes.txt').write_text('ground\nobject\n')
    exif = Image.Exif()
    exif[0x0112] = 3
    for number in range(1, 13):
        pixels, (x, y, width, height) = stored_image(number)
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[y:y + height, x:x + width] = 1
        for name, array, options in (('images', pixels, dict(exif=exif, quality=95)),
                                     ('annotations', labels if annotated == 'stored' else labels[::-1, ::-1], {})):
            path = tmp_path / name / 'training' / f'{number}.{"jpg" if name == "images" else "png"}'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(array)).save(path, **options)
    cfg = label_map_config(tmp_path)
    adapt_classes(cfg)
    if annotated == 'stored':
        with pytest.raises(DataError, match='annotated as they are stored: 12 outlines'):
            check_data(cfg, splits=['train'])
    else:
        assert any('labels fit the result (12 of 12 outlines)' in line for line in check_data(cfg, splits=['train']))


def test_decision_is_a_sign_test():
    assert [Votes(*votes).decision for votes in ((0, 0), (9, 0), (10, 0), (0, 10), (60, 40), (75, 25))] == [
        '', '', 'turned', 'stored', '', 'turned']
