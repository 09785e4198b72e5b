"""Folders as public data sets have them: the task, classes and splits are found without an option."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.own_sets import save, textured

from mae_backbone.planning.find_data import find_data

# Paths of an image and its label map. {split}: train or val; {name}: name of the image.
LABEL_MAPS = {
    'mmsegmentation': ('img_dir/{split}/{name}.jpg', 'ann_dir/{split}/{name}.png'),
    'Cityscapes': ('leftImg8bit/{split}/a/a_{name}_leftImg8bit.png',
                   'gtFine/{split}/a/a_{name}_gtFine_labelTrainIds.png'),
    'CamVid of SegNet': ('{split}/{name}.jpg', '{split}annot/{name}.png'),
    'image-segmentation-keras': ('images_prepped_{split}/{name}.jpg', 'annotations_prepped_{split}/{name}.png'),
    'DRIVE': ('{split}/images/{name}.jpg', '{split}/1st_manual/{name}.png'),
    'OpenEarthMap': ('{split}/Image/{name}.jpg', '{split}/Annotation/{name}.png'),
    'splits inside, capitals': ('Images/{split}/{name}.jpg', 'Masks/{split}/{name}.png'),
    'splits in names': ('{split}_images/{name}.jpg', '{split}_labels/{name}.png'),
    'short names': ('{split}_img/{name}.jpg', '{split}_mask/{name}.png'),
    'split at the end': ('images-{split}/{name}.jpg', 'masks-{split}/{name}.png'),
    'x and y': ('x_{split}/{name}.jpg', 'y_{split}/{name}.png'),
    'rgb and gt': ('{split}/rgb/{name}.jpg', '{split}/gt/{name}.png'),
    'src and label': ('{split}/src/{name}.jpg', '{split}/label/{name}.png'),
}
UNSPLIT_MAPS = {
    'semantic drone': ('original_images/{name}.jpg', 'label_images_semantic/{name}.png'),
    'KITTI': ('training/image_2/{name}.jpg', 'training/semantic/{name}.png'),
    'img and gt in a folder': ('data/img/{name}.jpg', 'data/gt/{name}.png'),
    'imgs and masks': ('imgs/{name}.jpg', 'masks/{name}.png'),
}
# Paths of an image. {split}: train or val; {label}: name of its class; {name}: name of the image.
CLASS_FOLDERS = {
    'capitals': '{Split}/{label}/{name}.jpg', 'in a folder': 'dataset/{split}/{label}/{name}.jpg',
    'images below': '{split}/images/{label}/{name}.jpg', 'images above': 'images/{split}/{label}/{name}.jpg',
    'class first': '{label}/{split}/{name}.jpg', 'data in the name': '{split}_data/{label}/{name}.jpg',
    'images in the name': '{split}_images/{label}/{name}.jpg', 'year in the name': '{split}2017/{label}/{name}.jpg',
}
UNSPLIT_FOLDERS = {
    'Animals-10': 'animals10/raw-img/{label}/{name}.jpg', 'Kaggle cats and dogs': 'PetImages/{label}/{name}.jpg',
    'images below the class': '{label}/images/{name}.jpg', 'Intel': 'seg_train/seg_train/{label}/{name}.jpg',
    'training set twice': 'training_set/training_set/{label}/{name}.jpg', 'only TRAIN': 'TRAIN/{label}/{name}.jpg',
}


def write(root: Path, image: str, label_map: str = '') -> None:
    """Writes 6 images of each split and of two classes, with different names, and label maps with two labels."""
    rng = np.random.default_rng(0)
    for index in range(24):
        split = 'train' if index < 12 else 'val'
        values = dict(split=split, Split=split.title(), label='cat' if index % 2 else 'dog', name=f'{index:04d}')
        save(root / image.format(**values), textured(rng, (48, 40)))
        if label_map:
            pixels = cv2.rectangle(np.zeros((40, 48), np.uint8), (8, 8), (30, 20 + index % 5), 1, -1)
            save(root / label_map.format(**values), pixels)


@pytest.mark.parametrize('name', [*LABEL_MAPS, *UNSPLIT_MAPS])
def test_label_maps(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write(tmp_path / 'data', *(LABEL_MAPS | UNSPLIT_MAPS)[name])
    data = find_data(tmp_path / 'data')
    sizes = {split: len(data.image_paths(split)) for split in data.splits}
    assert (data.task, len(data.classes)) == ('segmentation', 2)
    assert sizes == dict(train=12, val=12) if name in LABEL_MAPS else sum(sizes.values()) == 24
    assert 0 < sizes['val'] <= 12


@pytest.mark.parametrize('name', [*CLASS_FOLDERS, *UNSPLIT_FOLDERS])
def test_class_folders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write(tmp_path / 'data', (CLASS_FOLDERS | UNSPLIT_FOLDERS)[name])
    data = find_data(tmp_path / 'data')
    sizes = {split: len(data.image_paths(split)) for split in data.splits}
    assert (data.task, data.classes) == ('classification', ['cat', 'dog'])
    assert sizes == dict(train=12, val=12) if name in CLASS_FOLDERS else sum(sizes.values()) == 24
    assert 0 < sizes['val'] <= 12
