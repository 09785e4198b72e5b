"""Pairs of images and label maps in folders of any names."""
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import write_image
from PIL import Image

from mae_backbone.formats.layouts.class_lists import find_class_images
from mae_backbone.formats.layouts.map_contents import pairs_by_content
from mae_backbone.formats.layouts.map_pairs import find_map_pairs
from mae_backbone.planning.find_data import find_data

# Image and label map of a training image, of a validation image.
NAMINGS = {
    'words inside of the names': ('images_prepped_train/{}.png', 'annotations_prepped_train/{}.png',
                                  'images_prepped_val/{}.png', 'annotations_prepped_val/{}.png'),
    'x and y': ('x_train/{}.jpg', 'y_train/{}.png', 'x_val/{}.jpg', 'y_val/{}.png'),
    'several folders of maps': ('training/image_2/{}.png', 'training/semantic/{}.png', 'val/image_2/{}.png',
                                'val/semantic/{}.png'),
    'splits inside of the names': (
        'ISIC2018_Training_Input/{}.jpg', 'ISIC2018_Training_GroundTruth/{}_segmentation.png',
        'ISIC2018_Validation_Input/{}.jpg', 'ISIC2018_Validation_GroundTruth/{}_segmentation.png'),
    'suffixes of all files': ('training/images/{}_training.tif', 'training/1st_manual/{}_manual1.gif',
                              'val/images/{}_val.tif', 'val/1st_manual/{}_manual1.gif')}


def write_map(path: Path, *, size: tuple[int, int] = (16, 12), values: tuple[int, int] = (0, 1)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.full(size[::-1], values[0], np.uint8)
    labels[:, size[0] // 2:] = values[1]
    Image.fromarray(labels).save(path)


@pytest.mark.parametrize('naming', NAMINGS)
def test_pairs_are_found_in_folders_of_any_name(tmp_path: Path, naming: str, monkeypatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    root, paths = tmp_path / 'data', NAMINGS[naming]
    for image, label_map in (paths[:2], paths[2:]):
        for number in ('09', '10', '11'):
            write_image(root / image.format(number), (16, 12))
            write_map(root / label_map.format(number))
    found = find_map_pairs(root)
    assert sorted(map(tuple, found.pairs)) == sorted(
        (image.format(number), label_map.format(number), split) for number in ('09', '10', '11')
        for image, label_map, split in ((*paths[:2], 'train'), (*paths[2:], 'val')))
    assert (find_data(root).task, find_data(root).classes) == ('segmentation', ['class 0', 'class 1'])
    with pytest.raises(ValueError, match=r'has images and label maps, such as .* and no class folders'):
        find_class_images(root)


def test_classes_of_images_with_equal_names_and_few_values_are_no_label_maps(tmp_path: Path) -> None:
    names = [f'{folder}/{number}.png' for folder in ('blank', 'full', 'photo') for number in range(4)]
    for name in names:
        write_image(tmp_path / name, (16, 12))
    assert pairs_by_content(tmp_path, names, ('.png',)) == []
    for number in range(4):  # a class of blank images
        write_map(tmp_path / f'blank/{number}.png', values=(0, 0))
    assert pairs_by_content(tmp_path, names, ('.png',)) == []
    for number in range(4):  # images of another size
        write_map(tmp_path / f'blank/{number}.png', size=(20, 20))
    assert pairs_by_content(tmp_path, names, ('.png',)) == []
    for number in range(4):  # drawings in all classes
        for folder in ('blank', 'full', 'photo'):
            write_map(tmp_path / f'{folder}/{number}.png')
    assert pairs_by_content(tmp_path, names, ('.png',)) == []


def test_the_folder_with_most_equal_names_is_the_partner(tmp_path: Path) -> None:
    names = []
    for folder, numbers in (('north/photos', range(6)), ('south/photos', range(3))):
        for number in numbers:
            names += [f'{folder}/{number}.png', f'{folder.replace("photos", "truth")}/{number}.png']
            write_image(tmp_path / names[-2], (16, 12))
            write_map(tmp_path / names[-1])
    pairs = pairs_by_content(tmp_path, names, ('.png',))
    assert len(pairs) == 9
    assert all(pair.map == pair.image.replace('photos', 'truth') for pair in pairs)
