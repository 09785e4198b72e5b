"""Configs of CocoDataset on folders of other layouts."""
import json
from pathlib import Path

import pytest
from helpers.commands import refused, run_command
from helpers.layouts import write_voc, write_yolo
from helpers.small_sets import coco_config, write_coco

from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layout_cache import is_written
from mae_backbone.formats.layout_config import read_layouts
from mae_backbone.planning.adapt_config import adapt_classes


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path_factory.mktemp('cache')))


def train_set(cfg) -> dict:
    return cfg.train_dataloader.dataset.dataset.dataset


def test_config_reads_the_splits_of_another_layout(tmp_path: Path) -> None:
    cfg = coco_config(write_voc(tmp_path))
    lines = adapt_classes(cfg)
    assert lines[0].startswith('layout: Pascal VOC in')
    assert lines[1].startswith('classes: 2 (blue, red), from')
    content = json.loads(Path(train_set(cfg).ann_file).read_text())
    assert [image['file_name'] for image in content['images']] == [
        'JPEGImages/a b.jpg', 'JPEGImages/empty.jpg', 'JPEGImages/grün.png']
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file != train_set(cfg).ann_file
    assert is_written(cfg.val_evaluator.ann_file)
    before = cfg.to_dict()
    assert adapt_classes(cfg) == lines
    assert cfg.to_dict() == before


def test_annotation_files_of_the_config_take_precedence(tmp_path: Path) -> None:
    write_yolo(tmp_path)
    for split in ('train', 'val'):
        write_coco(tmp_path, split=split)
    assert read_layouts(coco_config(tmp_path)) == []


def test_only_folder_of_a_project_is_read(tmp_path: Path) -> None:
    write_yolo(tmp_path / 'project/data')
    (tmp_path / 'project/notebooks').mkdir()
    cfg = coco_config(tmp_path / 'project', masks=False)
    lines = adapt_classes(cfg)
    assert any(line.startswith('classes: 2 (red, blue), from') for line in lines)
    assert cfg.val_dataloader.dataset.data_prefix == dict(img='data/')
    assert check_data(cfg, splits=('train', 'val'))[0].startswith('train: 3 images, 3 boxes of 2 classes')


def test_images_in_a_usual_folder_are_read_by_the_file_of_the_config(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        write_coco(tmp_path, split=split)
    (tmp_path / 'images').mkdir()
    for split in ('train', 'val'):
        (tmp_path / split).rename(tmp_path / 'images' / split)
    cfg = coco_config(tmp_path)
    files = cfg.val_dataloader.dataset.ann_file
    lines = adapt_classes(cfg, complete=True)
    assert f'train: the images of {tmp_path}/annotations/train.json are in {tmp_path}/images/train/' in lines
    assert cfg.val_dataloader.dataset.data_prefix == dict(img='images/val/')
    assert cfg.val_dataloader.dataset.ann_file == files
    assert check_data(cfg, splits=('train', 'val'))


def test_missing_images_are_reported_by_the_check(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        write_coco(tmp_path, split=split)
        (tmp_path / split).rename(tmp_path / f'{split}_moved_and_renamed')
        for path in (tmp_path / f'{split}_moved_and_renamed').iterdir():
            path.unlink()
    cfg = coco_config(tmp_path)
    adapt_classes(cfg, complete=True)
    with pytest.raises(DataError, match=r'image folder .*/train/ does not exist'):
        check_data(cfg, splits=('train',))


def test_labeled_test_split_is_tested(tmp_path: Path) -> None:
    write_yolo(tmp_path, yaml='train: images/train\ntest: images/val\nnames: [red, blue]\n')
    cfg = coco_config(tmp_path)
    lines = read_layouts(cfg)
    assert any(line.startswith('test: the split of the data named test') for line in lines)
    files = [Path(dataset.ann_file) for dataset in (train_set(cfg), cfg.val_dataloader.dataset,
                                                    cfg.test_dataloader.dataset)]
    assert [file.stem for file in files] == ['instances_train', 'instances_val', 'instances_test']
    assert cfg.test_evaluator.ann_file == str(files[2])


def test_validation_images_are_not_trained_on(tmp_path: Path) -> None:
    write_yolo(tmp_path, yaml='val: images\nnames: [red, blue]\n')
    cfg = coco_config(tmp_path, masks=False)
    adapt_classes(cfg, complete=True)
    assert check_data(cfg, splits=('test',))
    with pytest.raises(DataError, match='has a validation split, and no images for training'):
        check_data(cfg, splits=('train', 'val'))


def test_made_split_is_the_same_each_time_and_follows_the_pattern(tmp_path: Path) -> None:
    write_yolo(tmp_path, yaml='train: images/train\nnames: [red, blue]\n')
    cfg = coco_config(tmp_path)
    lines = read_layouts(cfg)
    assert any('1 of 3 images are held out' in line for line in lines)
    record = json.loads((Path(train_set(cfg).ann_file).parent / 'split.json').read_text())
    assert len(record['val']) == 1
    again = coco_config(tmp_path)
    read_layouts(again)
    assert train_set(again).ann_file == train_set(cfg).ann_file
    again.group_pattern = 'train'
    with pytest.raises(DataError, match='all 3 training images are in one group'):
        read_layouts(again)


def test_pattern_without_effect_is_refused(tmp_path: Path) -> None:
    cfg = coco_config(write_voc(tmp_path))
    cfg.group_pattern = 'x'
    with pytest.raises(DataError, match='the data already have a validation split'):
        read_layouts(cfg)


WORKERS = [f'{split}_dataloader.{key}' for split in ('train', 'val') for key in (
    'num_workers=0', 'persistent_workers=False')]


@pytest.mark.slow  # a training and a test through the command line, 6 s; docs/your_data.md does the same with VOC
def test_detector_trains_and_is_tested_on_a_made_split(tmp_path: Path) -> None:
    data, run = tmp_path / 'data', tmp_path / 'run'
    write_yolo(data, yaml='train: images\nnames: [red, blue]\n')
    printed = run_command('train', 'faster-rcnn_vit-micro_nuclei', '--data-root', data, '--iters', 1, '--batch-size', 1,
                          '--work-dir', run, '--cfg-options', *WORKERS)
    assert f'layout: YOLO in {data}' in printed
    assert (run / 'split.json').exists()
    printed = run_command('test', run / 'iter_1.pth', '--data-root', data, '--cfg-options',
                          'test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False')
    assert 'coco/bbox_mAP' in printed
    assert 'test: 1 images' in printed


def test_config_with_masks_names_one_without(tmp_path: Path) -> None:
    assert 'have no segmentation' in refused('check', 'mask-rcnn_vit-micro_nuclei', '--data-root', write_voc(tmp_path),
                                             '-o', tmp_path / 'samples.png', '--workers', 1)
