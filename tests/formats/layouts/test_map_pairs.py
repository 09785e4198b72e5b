"""Pairs of images and label maps of any naming."""
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import write_image
from PIL import Image

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layout_maps import read_map
from mae_backbone.formats.layouts.map_classes import VOC_CLASSES
from mae_backbone.formats.layouts.map_pairs import find_map_pairs

# Image and label map of a/b in training, and of c in validation.
NAMINGS = {
    'images and masks': ('images/train/{}.jpg', 'masks/train/{}.png', 'images/val/{}.jpg', 'masks/val/{}.png'),
    'splits first': ('train/images/{}.jpg', 'train/labels/{}.png', 'valid/images/{}.jpg', 'valid/labels/{}.png'),
    'one folder': ('train/{}.jpg', 'train/{}_mask.png', 'val/{}.png', 'val/{}_mask.png'),
    'words joined': ('train/{}.png', 'train_masks/{}_mask.bmp', 'val/{}.png', 'val_masks/{}_mask.bmp'),
    'CamVid': ('train/{}.png', 'trainannot/{}.png', 'val/{}.png', 'valannot/{}.png'),
    'Cityscapes': ('leftImg8bit/train/x/{}_leftImg8bit.png', 'gtFine/train/x/{}_gtFine_labelIds.png',
                   'leftImg8bit/val/y/{}_leftImg8bit.png', 'gtFine/val/y/{}_gtFine_labelIds.png'),
    'Cityscapes, labels of the evaluation': (
        'leftImg8bit/train/x/{}_leftImg8bit.png', 'gtFine/train/x/{}_gtFine_labelTrainIds.png',
        'leftImg8bit/val/y/{}_leftImg8bit.png', 'gtFine/val/y/{}_gtFine_labelTrainIds.png'),
    'mmsegmentation': ('img_dir/train/{}.jpg', 'ann_dir/train/{}.png', 'img_dir/val/{}.jpg', 'ann_dir/val/{}.png'),
    'suffixes': ('images/train/{}.JPG', 'annotations/train/{}_seg.PNG', 'images/val/{}.png', 'annotations/val/{}.png'),
}


def write_map(path: Path, labels: np.ndarray, *, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if palette:
        image = image.convert('P') if image.mode != 'L' else image
        image.putpalette(palette)
    image.save(path, format=path.suffix[1:])


def write(root: Path, naming: str, labels: np.ndarray, **options) -> None:
    for name, image, label_map in (('a b', 0, 1), ('b', 0, 1), ('c', 2, 3)):
        paths = NAMINGS[naming]
        write_image(root / paths[image].format(name), (12, 8))
        write_map(root / paths[label_map].format(name), labels, **options)


def numbers(*values: int) -> np.ndarray:
    return np.resize(np.array(values, np.uint8), (8, 12))


@pytest.mark.parametrize('naming', NAMINGS)
def test_pairs_are_found_by_their_names(tmp_path: Path, naming: str) -> None:
    write(tmp_path, naming, numbers(0, 1, 2, 255))
    found = find_map_pairs(tmp_path)
    train, val = NAMINGS[naming][:2], NAMINGS[naming][2:]
    assert {tuple(pair) for pair in found.pairs} == {
        *((train[0].format(name), train[1].format(name), 'train') for name in ('a b', 'b')),
        (val[0].format('c'), val[1].format('c'), 'val')}
    assert found.names == ['class 0', 'class 1', 'class 2']
    assert not found.is_binary


def test_masks_of_0_and_255_have_two_classes(tmp_path: Path) -> None:
    write(tmp_path, 'images and masks', numbers(0, 255))
    found = find_map_pairs(tmp_path)
    assert (found.names, found.is_binary) == (['background', 'foreground'], True)
    (tmp_path / 'classes.txt').write_text('crack\n')
    assert find_map_pairs(tmp_path).names == ['background', 'crack']


def test_a_map_with_1_and_255_among_masks_of_0_and_255_is_refused(tmp_path: Path) -> None:
    """255 may be a class or mean pixels of no class."""
    write(tmp_path, 'images and masks', numbers(0, 255))
    found = find_map_pairs(tmp_path)
    write_map(tmp_path / found.pairs[1].map, numbers(0, 1, 255))
    with pytest.raises(DataError, match=r'has the numbers 1 and 255, and other label maps only have 0 and 255'):
        read_map(found, found.pairs[1].map)


def test_masks_of_black_and_white_in_color_have_two_classes(tmp_path: Path) -> None:
    write(tmp_path, 'images and masks', np.repeat(numbers(0, 255)[..., None], 3, axis=2))
    for names, expected in (('', ['background', 'foreground']), ('crack', ['background', 'crack']),
                            ('wall\ncrack', ['wall', 'crack'])):
        if names:
            (tmp_path / 'classes.txt').write_text(names)
        found = find_map_pairs(tmp_path)
        assert found.names == expected
        assert [np.unique(read_map(found, pair.map)).tolist() for pair in found.pairs] == 3 * [[0, 1]]


def test_palette_of_voc_names_its_classes_and_lists_its_splits(tmp_path: Path) -> None:
    for name in 'abc':
        write_image(tmp_path / f'JPEGImages/{name}.jpg', (12, 8))
    for name in 'ab':
        write_map(tmp_path / f'SegmentationClass/{name}.png', numbers(0, 15, 255),
                  palette=[0, 0, 0, 128, 0, 0, 0, 128, 0])
    (tmp_path / 'ImageSets/Segmentation').mkdir(parents=True)
    for split, name in (('train', 'a'), ('val', 'b'), ('trainval', 'a\nb')):
        (tmp_path / f'ImageSets/Segmentation/{split}.txt').write_text(f'{name}\n')
    found = find_map_pairs(tmp_path)
    assert found.names == list(VOC_CLASSES)
    assert [(pair.image, pair.split) for pair in found.pairs] == [('JPEGImages/a.jpg', 'train'),
                                                                  ('JPEGImages/b.jpg', 'val')]
    assert any('images without a label map: 1' in line for line in found.lines())


def test_colors_are_named_by_labelmap_txt_or_by_themselves(tmp_path: Path) -> None:
    colors = np.zeros((8, 12, 3), np.uint8)
    colors[:, 6:] = (128, 64, 0)
    write(tmp_path, 'images and masks', colors)
    found = find_map_pairs(tmp_path)
    assert (found.names, found.colors) == (['color 000000', 'color 804000'], [(0, 0, 0), (128, 64, 0)])
    (tmp_path / 'labelmap.txt').write_text('# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:128,64,0::\n')
    assert find_map_pairs(tmp_path).names == ['background', 'road']
    (tmp_path / 'labelmap.txt').write_text('road\n')
    with pytest.raises(DataError, match=r"labelmap\.txt, line 1: 'road', expected name:red,green,blue"):
        find_map_pairs(tmp_path)


def test_gray_levels_several_maps_and_broken_maps_are_refused(tmp_path: Path) -> None:
    write(tmp_path, 'one folder', numbers(0, 38, 75))
    with pytest.raises(DataError, match=r'have the numbers 0, 38, 75, and no classes\.txt'):
        find_map_pairs(tmp_path)
    write_map(tmp_path / 'train/masks/b.png', numbers(0, 1))
    with pytest.raises(DataError, match='1 images or label maps have the same name'):
        find_map_pairs(tmp_path)
    (tmp_path / 'train/masks/b.png').unlink()
    (tmp_path / 'train/b_mask.png').write_bytes(b'x')
    with pytest.raises(DataError, match=r'b_mask\.png cannot be read as a label map'):
        find_map_pairs(tmp_path)


@pytest.mark.parametrize('naming', ['images and masks', 'one folder'])
def test_label_maps_saved_as_jpeg_are_refused(tmp_path: Path, naming: str) -> None:
    write(tmp_path, naming, numbers(0, 100))
    for path in [path for path in tmp_path.rglob('*.png') if 'mask' in str(path.relative_to(tmp_path))]:
        Image.open(path).save(path.with_suffix('.jpg'))
        path.unlink()
    with pytest.raises(DataError, match=r'3 label maps are JPEG, such as .*mask.*: save the label maps as PNG'):
        find_map_pairs(tmp_path)


def test_label_map_saved_as_jpeg_among_others_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 'images and masks', numbers(0, 1))
    path = tmp_path / 'masks/train/b.png'
    Image.open(path).save(path.with_suffix('.jpg'))
    path.unlink()
    found = find_map_pairs(tmp_path)
    assert len(found.pairs) == 2
    words = 'label maps saved as JPEG, which changes labels: 1 (masks/train/b.jpg)'
    assert any(words in line for line in found.lines())


def test_folder_without_label_maps_has_none(tmp_path: Path) -> None:
    write_image(tmp_path / 'images/a.jpg')
    assert find_map_pairs(tmp_path) is None
