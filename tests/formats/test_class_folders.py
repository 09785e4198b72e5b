import os
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import class_folder_config, write_class_folders, write_image
from PIL import Image

from mae_backbone.formats.check import check_data
from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.dataset_spec import DataError, dataset_specs
from mae_backbone.planning.adapt_config import adapt_classes
from mae_backbone.registry import DATASETS


def test_class_folders_are_sorted_without_files_and_hidden_folders(tmp_path: Path) -> None:
    for name in ('b', 'a', '.hidden'):
        (tmp_path / 'train' / name).mkdir(parents=True)
    (tmp_path / 'train' / 'notes.txt').write_text('')
    spec, = dataset_specs(class_folder_config(tmp_path), 'train')
    assert ClassFolders(spec).names_on_disk() == ['a', 'b']
    absent, = dataset_specs(class_folder_config(tmp_path / 'nowhere'), 'train')
    assert ClassFolders(absent).names_on_disk() == []


def test_folders_of_images_and_label_maps_are_no_classes(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        for number in range(3):
            write_image(tmp_path / split / 'photos' / f'{number}.png', (16, 12))
            labels = np.zeros((12, 16), np.uint8)
            labels[4:, 8:] = 1
            (tmp_path / split / 'truth').mkdir(exist_ok=True)
            Image.fromarray(labels).save(tmp_path / split / 'truth' / f'{number}.png')
    with pytest.raises(DataError, match=r'train has images and label maps, such as .*photos.* and .*truth'):
        check_data(class_folder_config(tmp_path))


def test_numbered_folders_take_their_names_from_classes_txt(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        write_class_folders(tmp_path, split, ('0', '2', '10', '1'))
    names = [f'class {i}' for i in range(11)]
    (tmp_path / 'classes.txt').write_text('\ufeff' + '\n'.join(names), encoding='utf-8')
    cfg = class_folder_config(tmp_path)
    assert adapt_classes(cfg)[0].startswith('classes: 4 (class 0, class 1, class 2, class 10), from')
    assert check_data(cfg)[0] == 'train: 8 images of 4 classes'
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset))
    assert [(dataset.classes[label], os.path.basename(os.path.dirname(os.fsdecode(file))))
            for label, file in zip(dataset.labels[::2], dataset.files[::2], strict=True)] == [
        ('class 0', '0'), ('class 1', '1'), ('class 2', '2'), ('class 10', '10')]
    (tmp_path / 'classes.txt').write_text('a\nb\n')
    with pytest.raises(ValueError, match=r'has 2 names, but .* has the folders'):
        adapt_classes(class_folder_config(tmp_path))


def test_unused_images_are_counted(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 'train')
    cfg = class_folder_config(tmp_path)
    adapt_classes(cfg)
    cfg.train_dataloader.dataset.fraction = 0.1
    lines = check_data(cfg, splits=['train'])
    assert lines[1] == 'train: only 2 of 4 images are used (fraction=0.1 in the config, or --labels)'
    assert len(DATASETS.build(dict(cfg.train_dataloader.dataset))) == 2


def test_training_on_a_single_class_is_refused(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 'train', ('cat',))
    cfg = class_folder_config(tmp_path)
    adapt_classes(cfg)
    with pytest.raises(DataError, match='has images of 1 class, expected two or more'):
        check_data(cfg, splits=['train'])


def test_class_folders_in_another_case_are_named(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 'train', ('cat', 'dog'))
    write_class_folders(tmp_path, 'val', ('Cat', 'dog'))
    cfg = class_folder_config(tmp_path)
    adapt_classes(cfg)
    with pytest.raises(DataError, match='Cat and cat differ only in upper and lower case'):
        check_data(cfg, splits=['val'])
