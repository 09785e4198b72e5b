"""Configs of segmentation and classification on folders of other layouts."""
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import run_command
from helpers.layouts import write_voc
from helpers.small_sets import coco_config, label_map_config, write_image, write_label_maps
from mmengine.config import Config
from PIL import Image

from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layout_config import read_layouts, write_made_split
from mae_backbone.formats.registry import formats_in
from mae_backbone.planning.adapt_config import adapt_classes


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path_factory.mktemp('cache')))


def write_masks(root: Path, values: tuple[int, ...], count: int = 5, size: tuple[int, int] = (24, 16)) -> Path:
    for i in range(count):
        write_image(root / f'images/{i}{(".jpg", ".PNG")[i % 2]}', size)
        path = root / f'masks/{i}_mask.png'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.resize(np.array(values, np.uint8), size[::-1])).save(path)
    return root


def class_config(root: Path) -> Config:
    def loader(split: str) -> dict:
        return dict(dataset=dict(type='mae_backbone.ClassFolder', data_root=str(root), split=split))
    return Config(dict(data_root=str(root), train_dataloader=loader('train'), val_dataloader=loader('val'),
                       test_dataloader=loader('val'), model=dict(num_classes=10),
                       test_cfg=dict(type='mae_backbone.KNNLoop', bank=loader('train'))))


def test_masks_of_0_and_255_are_two_classes_with_a_made_split(tmp_path: Path) -> None:
    cfg = label_map_config(write_masks(tmp_path, (0, 255)))
    lines = adapt_classes(cfg)
    assert any('1 of 5 images are held out' in line for line in lines)
    assert cfg.train_dataloader.dataset.type == 'mae_backbone.ListedSegDataset'
    assert any('classes: 2 (background, foreground)' in line for line in lines)
    train, val = formats_in(cfg, ['train', 'val'])
    assert len(train.images()) == 4
    assert train.count_pixels(train.label_maps()[0]).nonzero()[0].tolist() == [0, 1]
    assert check_data(cfg, splits=['train', 'val'])[0].startswith('train: 4 images with label maps of 2 classes')
    assert not set(val.images()) & set(train.images())
    before = cfg.to_dict()
    assert adapt_classes(cfg) == lines
    assert cfg.to_dict() == before


def test_numbers_are_read_in_place_and_fractions_of_labels_are_taken(tmp_path: Path) -> None:
    cfg = label_map_config(write_masks(tmp_path, (0, 1, 2)))
    adapt_classes(cfg)
    train, = formats_in(cfg, ['train'])
    assert all(path.startswith(str(tmp_path)) for path in train.label_maps())
    assert 'labels: 2 of 4 training images' in train.subset(0.5, 0)


def test_folders_of_the_config_take_precedence(tmp_path: Path) -> None:
    for split in ('training', 'validation'):
        write_label_maps(tmp_path, split)
    assert read_layouts(label_map_config(tmp_path)) == []


def test_data_as_the_config_expects_get_a_missing_validation_split_from_commands_only(tmp_path: Path) -> None:
    write_label_maps(tmp_path, 'training')
    assert read_layouts(label_map_config(tmp_path)) == []
    lines = read_layouts(label_map_config(tmp_path), complete=True)
    assert any('1 of 3 images are held out' in line for line in lines)
    (tmp_path / 'annotations/training/a.png').unlink()
    assert read_layouts(label_map_config(tmp_path), complete=True) == []  # the check names the fault


def test_images_with_several_suffixes_are_read(tmp_path: Path) -> None:
    for split in ('training', 'validation'):
        write_label_maps(tmp_path, split)
    (tmp_path / 'images/training/a.jpg').rename(tmp_path / 'images/training/a.PNG')
    cfg = label_map_config(tmp_path)
    assert read_layouts(cfg) == []
    adapt_classes(cfg, complete=True)
    train, = formats_in(cfg, ['train'])
    assert sorted(Path(path).name for path in train.images()) == ['a.PNG', 'b.jpg', 'c.jpg']
    (tmp_path / 'annotations/training/b.png').unlink()
    assert read_layouts(label_map_config(tmp_path), complete=True) == []  # the check names the fault


@pytest.mark.parametrize(('config', 'write', 'message'), [
    (label_map_config, write_voc, 'in the layout of Pascal VOC, which configs of detection read'),
    (class_config, write_voc, 'in the layout of Pascal VOC, which configs of detection read'),
    (coco_config, lambda root: write_masks(root, (0, 1)), 'has label maps, which configs of segmentation read')])
def test_data_of_another_task_name_the_config(tmp_path: Path, config, write, message: str) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        read_layouts(config(tmp_path))


def test_class_folders_without_splits_become_lists(tmp_path: Path) -> None:
    for name, count in (('10', 6), ('9', 5)):
        for i in range(count):
            write_image(tmp_path / 'data' / name / f'{i}.png')
    cfg = class_config(tmp_path / 'data')
    lines = adapt_classes(cfg)
    assert any('2 of 11 images are held out' in line for line in lines)
    train, val = formats_in(cfg, ['train', 'val'])
    assert train.classes().names == val.classes().names == ['10', '9']
    assert (len(train.images()), len(val.images())) == (9, 2)
    bank = cfg.test_cfg.bank.dataset
    assert (bank.split, bank.data_root) == ('train', cfg.train_dataloader.dataset.data_root)
    assert 'train: 9 images of 2 classes' in check_data(cfg, splits=['train'])
    assert write_made_split(cfg, tmp_path) == [f'split: lists of the images in {tmp_path}/split.json']
    assert len(json.loads((tmp_path / 'split.json').read_text())['val']) == 2


WORKERS = [f'{split}_dataloader.{key}' for split in ('train', 'val') for key in (
    'num_workers=0', 'persistent_workers=False')]


@pytest.mark.slow  # two trainings and tests through the command line, 12 s
@pytest.mark.parametrize('task', ['segmentation', 'classification'])
@pytest.mark.filterwarnings('ignore:For binary segmentation')  # mmseg's advice on two classes
def test_commands_train_and_test_on_it(tmp_path: Path, task: str) -> None:
    data, run = tmp_path / 'data', tmp_path / 'run'
    if task == 'segmentation':
        write_masks(data, (0, 255), size=(96, 80))
        printed = run_command('train', 'upernet_vit-micro_camvid', '--data-root', data, '--iters', 1, '--batch-size',
                              2, '--work-dir', run, '--cfg-options', *WORKERS)
        metric, checkpoint = 'mIoU', 'iter_1.pth'
    else:
        for i in range(12):
            write_image(data / f'{"ab"[i % 2]}/{i}.png', (32, 32))
        printed = run_command('train', 'vit-micro_supervised_cifar10', '--data-root', data, '--epochs', 1,
                              '--batch-size', 4, '--work-dir', run, '--cfg-options', *WORKERS)
        metric, checkpoint = 'top1', 'epoch_1.pth'
    assert 'split: the data have no validation split' in printed
    assert (run / 'split.json').is_file()
    printed = run_command('test', run / checkpoint, '--data-root', data, '--cfg-options',
                          'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False')
    assert metric in printed
