"""Batches of the recipes: what a model receives from a data set in the layout of the recipe card."""
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.config_files import DETECTION, FINETUNE, KNN, LINEAR, PRETRAIN, SEGMENTATION, load, look_up, scope
from mmengine import registry
from mmengine.runner import Runner

RED = np.full((80, 120, 3), (0, 0, 255), np.uint8)  # as OpenCV stores it: blue first
NORMAL_RED = (255 - 123.675) / 58.395


@pytest.fixture(scope='module')
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders in the layouts of the recipe cards, with two red images in each."""
    root = tmp_path_factory.mktemp('data')

    def write(path: str, image: np.ndarray) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(cv2.imencode('.png', image)[1].tobytes())

    for split in ('train', 'val'):
        for name in ('n01440764', 'n01443537'):
            write(f'data/imagenet/{split}/{name}/0.JPEG', RED)
    for split in ('training', 'validation'):
        for i in range(2):
            write(f'data/ade/ADEChallengeData2016/images/{split}/{i}.jpg', RED[:20])  # lower than any window
            write(f'data/ade/ADEChallengeData2016/annotations/{split}/{i}.png', np.full((20, 120), 7, np.uint8))
    for split in ('train2017', 'val2017'):
        for i in range(2):
            write(f'data/coco/{split}/{i}.jpg', RED)
        boxes = [{'id': i, 'image_id': i, 'category_id': 1, 'iscrowd': 0, 'bbox': [10, 10, 100, 60], 'area': 3000,
                  'segmentation': [[10, 10, 110, 10, 10, 70]]} for i in range(2)]
        images = [{'id': i, 'file_name': f'{i}.jpg', 'width': 120, 'height': 80} for i in range(2)]
        (root / 'data/coco/annotations').mkdir(exist_ok=True)
        (root / f'data/coco/annotations/instances_{split}.json').write_text(json.dumps(
            {'images': images, 'annotations': boxes, 'categories': [{'id': 1, 'name': 'person'}]}))
    return root


def batches(file: str, loader: str, data_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """Batches of a dataloader as the model receives them, with the data in their default folder."""
    monkeypatch.chdir(data_root)
    cfg = load(file)
    options = look_up(cfg, loader) | {'batch_size': min(2, look_up(cfg, loader).batch_size), 'num_workers': 0,
                                      'persistent_workers': False}
    with scope(cfg):
        preprocess = registry.MODELS.build(cfg.model.data_preprocessor)
        dataloader = Runner.build_dataloader(options, seed=0)
    for batch in dataloader:
        yield preprocess(batch, loader == 'train_dataloader')


@pytest.mark.parametrize(('file', 'loader', 'shape'), [
    (PRETRAIN, 'train_dataloader', (2, 3, 224, 224)), (FINETUNE, 'val_dataloader', (2, 3, 224, 224)),
    (LINEAR, 'train_dataloader', (2, 3, 224, 224)), (KNN, 'test_cfg.bank', (2, 3, 224, 224)),
    (DETECTION, 'train_dataloader', (2, 3, 1024, 1024)), (DETECTION, 'val_dataloader', (1, 3, 1024, 1024)),
    (SEGMENTATION, 'val_dataloader', (1, 3, 512, 2048))])
def test_red_arrives_normalized_in_the_first_channel(file: str, loader: str, shape: tuple[int, ...],
                                                     data_root: Path, monkeypatch: pytest.MonkeyPatch):
    images = next(batches(file, loader, data_root, monkeypatch))['inputs']
    images = torch.stack(images) if isinstance(images, list) else images
    assert images.shape == shape
    red = images[:, 0]
    assert {round(value, 3) for value in red.unique().tolist()} <= {round(NORMAL_RED, 3), 0.0}  # 0: padding
    assert red[0, 0, 0] == pytest.approx(NORMAL_RED)
    assert (images[:, 1][red != 0] < -2).all()


@pytest.mark.parametrize(('file', 'shape'), [(FINETUNE, (2, 3, 224, 224)), (SEGMENTATION, (2, 3, 512, 512))])
def test_augmented_batches_have_one_size(file: str, shape: tuple[int, ...], data_root: Path,
                                           monkeypatch: pytest.MonkeyPatch):
    assert next(batches(file, 'train_dataloader', data_root, monkeypatch))['inputs'].shape == shape


def test_first_class_of_ade20k_is_ignored(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    batch = next(batches(SEGMENTATION, 'train_dataloader', data_root, monkeypatch))
    labels = batch['data_samples'][0].gt_sem_seg.data
    assert {*labels.unique().tolist()} - {255} == {6}  # 7 in the files; 255: padding


def test_boxes_enclose_the_cropped_masks(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    np.random.seed(0)
    num_boxes = 0
    for batch in itertools.islice(batches(DETECTION, 'train_dataloader', data_root, monkeypatch), 3):
        for sample in batch['data_samples']:
            objects = sample.gt_instances
            assert objects.masks.masks.shape[1:] == (1024, 1024)
            boxes = objects.masks.get_bboxes('hbox')
            torch.testing.assert_close(objects.bboxes, boxes.tensor)
            num_boxes += len(boxes)
    assert num_boxes > 0


def test_detection_is_evaluated_on_boxes_and_masks(data_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(data_root)
    cfg = load(DETECTION)
    with scope(cfg):
        assert registry.METRICS.build(cfg.val_evaluator).metrics == ['bbox', 'segm']
