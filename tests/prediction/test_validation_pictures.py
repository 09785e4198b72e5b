"""Pictures of validation images: the same images each time, at their own aspect ratio, truth beside prediction."""
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.small_sets import write_image
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_rle

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.prediction.validation_pictures import ValidationPicturesHook, true_instances


def run_of(dataset: object, work_dir: Path, *, batch_size: int = 4) -> SimpleNamespace:
    return SimpleNamespace(
        val_dataloader=SimpleNamespace(dataset=dataset, batch_size=batch_size), work_dir=str(work_dir), epoch=3, iter=9,
        log_processor=SimpleNamespace(by_epoch=True), logger=SimpleNamespace(info=print))


def test_chosen_images_are_the_same_and_named(tmp_path: Path):
    for name in ('cat', 'dog'):
        for i in range(5):
            write_image(tmp_path / 'val' / name / f'{i}.png', (64, 32))
    dataset = ClassFolder(tmp_path, 'val', train=False, image_size=16)
    hook, run, chosen = ValidationPicturesHook(images=3), run_of(dataset, tmp_path), []
    for _ in range(2):
        hook.before_val_epoch(run)
        for start in range(0, 10, 4):
            outputs = [{'scores': torch.tensor([0.2, 0.8]), 'label': int(dataset.labels[i])}
                       for i in range(start, min(10, start + 4))]
            hook.after_val_iter(run, start // 4, outputs=outputs)
        hook.after_val_epoch(run)
        chosen.append(sorted(hook.rows))
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3
    picture = cv2.imread(str(tmp_path / 'validation' / 'epoch_3.jpg'))
    assert picture.shape[0] == 24 + 3 * 324
    assert all(image.shape[1] == 2 * 192 for image in hook.rows[chosen[0][0]]), '64x32 at its own aspect ratio'


@pytest.mark.parametrize('kind', ['polygon', 'rle', 'counts'])
def test_masks_of_every_form_are_read(kind: str):
    pixels = np.zeros((20, 30), np.uint8, order='F')
    pixels[5:15, 10:20] = 1
    rle = coco_rle.encode(pixels)
    counts = np.diff(np.flatnonzero(np.diff(np.r_[-1, pixels.T.ravel().astype(int), -1]))).tolist()
    mask = {'polygon': [[10, 5, 20, 5, 20, 15, 10, 15]], 'rle': rle,
            'counts': {'size': [20, 30], 'counts': counts}}[kind]
    crowd = dict(bbox=[0, 0, 5, 5], bbox_label=0, ignore_flag=1, mask=rle)
    truth = true_instances([dict(bbox=[10, 5, 20, 15], bbox_label=1, ignore_flag=0, mask=mask), crowd], (20, 30))
    assert truth.labels.tolist() == [1]
    assert truth.masks[0].to_mask().shape == (10, 10)
    assert (truth.masks[0].top, truth.masks[0].left) == (5, 10)


class Stored:
    """A data set of label maps or boxes whose pipeline loads an image of 64x128."""

    metainfo = {'classes': ('sky', 'road'), 'palette': [(0, 0, 255), (255, 0, 0)]}  # noqa: RUF012
    pipeline = SimpleNamespace(transforms=[lambda results: {'img': np.zeros((64, 128, 3), np.uint8)}])

    def __len__(self) -> int:
        return 2

    def get_data_info(self, index: int) -> dict:
        return {'instances': [dict(bbox=[10, 10, 50, 50], bbox_label=index, ignore_flag=0)]}


def test_label_maps_have_a_legend_of_the_classes_in_them(tmp_path: Path):
    def output(label: int) -> SegDataSample:
        data = PixelData(data=torch.full((1, 64, 128), label))
        return SegDataSample(metainfo=dict(img_path='a'), gt_sem_seg=data, pred_sem_seg=data)
    heights = []
    for labels in ((0, 0), (255, 255)):
        hook, run = ValidationPicturesHook(), run_of(Stored(), tmp_path, batch_size=2)
        hook.before_val_epoch(run)
        hook.after_val_iter(run, 0, outputs=[output(label) for label in labels])
        hook.after_val_epoch(run)
        heights.append(cv2.imread(str(tmp_path / 'validation' / 'epoch_3.jpg')).shape[0])
    assert heights == [24 + 2 * 324 + 24, 24 + 2 * 324]


def test_boxes_come_from_the_data_set(tmp_path: Path):
    hook, run = ValidationPicturesHook(threshold=0.5), run_of(Stored(), tmp_path, batch_size=2)
    hook.before_val_epoch(run)
    found = InstanceData(bboxes=torch.tensor([[0.0, 0, 5, 5]]), scores=torch.tensor([0.4]), labels=torch.tensor([0]))
    hook.after_val_iter(run, 0, outputs=[DetDataSample(metainfo=dict(img_path='a'), pred_instances=found)
                                         for _ in range(2)])
    truth, prediction = hook.rows[1]
    assert truth.any()
    assert not prediction.any(), 'a score below the threshold'


@pytest.mark.parametrize('options', [dict(images=0), dict(threshold=1.5)])
def test_invalid_options_are_refused(options: dict):
    with pytest.raises(ValueError, match='expected'):
        ValidationPicturesHook(**options)
