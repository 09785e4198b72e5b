"""Mask R-CNN and Faster R-CNN: the evaluator gives a perfect model an AP of 100, and images keep their size."""
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.peer_data import BOXES, DETECTION, SIDE, ReadingDetector, peer_spec, ticking, write_readable_boxes
from mmengine.config import Config
from torch.testing import assert_close

from mae_backbone.transfer.peers.rcnn import resnet18_faster_rcnn, resnet18_mask_rcnn, train_detector


def read(task: dict) -> Config:
    return Config.fromfile(peer_spec(task, Path())['where']['config'])


def test_a_perfect_model_has_an_ap_of_100(tmp_path):
    spec = peer_spec(DETECTION, write_readable_boxes(tmp_path / 'data'))
    found = train_detector(spec, clock=ticking(), build=ReadingDetector)
    assert (found['steps'], found['cpu_minutes']) == (6, 0.05)
    assert found['values'] == pytest.approx({'box AP': 100.0, 'mask AP': 100.0})
    assert [point[0] for point in found['curves']['mask AP']] == [2, 4, 6]


def test_a_perfect_model_of_boxes_has_an_ap_of_100(tmp_path):
    model = ReadingDetector(masks=False)
    found = train_detector(peer_spec(BOXES, write_readable_boxes(tmp_path / 'data')), clock=ticking(),
                           build=lambda *_: model)
    assert found['values'] == pytest.approx({'box AP': 100.0})
    assert {key for _, target in model.targets for key in target} == {'boxes', 'labels'}


def test_boxes_of_resized_images_are_those_of_the_original(tmp_path):
    spec = peer_spec(DETECTION, write_readable_boxes(tmp_path / 'data'), config_options={
        'val_dataloader.dataset.pipeline.1.scale_factor': 2.0})
    found = train_detector(spec, clock=ticking(), build=ReadingDetector)
    assert found['values']['box AP'] == pytest.approx(100.0)


def test_a_model_that_finds_nothing_has_an_ap_of_0(tmp_path):
    spec = peer_spec(DETECTION, write_readable_boxes(tmp_path / 'data'))
    found = train_detector(spec, clock=ticking(), build=partial(ReadingDetector, blind=True))
    assert found['values'] == {'box AP': 0.0, 'mask AP': 0.0}


def test_targets_are_the_objects_of_the_crop(tmp_path):
    model = ReadingDetector()
    options = {'train_dataloader.dataset.filter_cfg.filter_empty_gt': False}
    spec = peer_spec(DETECTION, write_readable_boxes(tmp_path / 'data'), minutes=0.1, config_options=options)
    train_detector(spec, clock=ticking(), build=lambda *_: model)
    assert {0} < {len(target['boxes']) for _, target in model.targets}
    for image, target in model.targets:
        assert target['masks'].dtype == torch.uint8
        assert target['labels'].tolist() == [1] * len(target['boxes'])
        assert_close(target['boxes'][:, 2:], target['boxes'][:, :2] + SIDE)
        assert_close(target['masks'].sum(0).float(), (image[0] > 0.5).float())


def test_images_keep_their_size_and_the_same_seed_gives_the_same_loss():
    cfg = read(DETECTION)
    seen, losses = set(), []
    images = [torch.rand(3, 64, 96), torch.rand(3, 80, 40)]
    box, mask = torch.tensor([[4.0, 4.0, 24.0, 30.0]]), torch.zeros(1, 64, 96, dtype=torch.uint8)
    targets = [{'boxes': box, 'labels': torch.tensor([1]), 'masks': mask},
               {'boxes': box[:0], 'labels': torch.tensor([], dtype=torch.long), 'masks': mask[:0, :40, :40]}]
    for _ in range(2):
        torch.manual_seed(0)
        model = resnet18_mask_rcnn(cfg, 1)
        model.backbone.register_forward_pre_hook(lambda _, inputs: seen.add(tuple(inputs[0].shape)))
        losses.append(model(images, targets))
    assert losses[0] == losses[1]
    with torch.no_grad():
        [objects] = model.eval()(images[:1])
    assert seen == {(2, 3, 96, 96), (1, 3, 64, 96)}
    assert objects['boxes'][:, 2].max() <= 96
    assert objects['masks'].shape[1:] == (1, 28, 28)
    assert model.rpn.anchor_generator.sizes == ((12,), (24,), (48,), (96,), (192,))


def test_a_config_without_mask_rcnn_is_refused():
    with pytest.raises(ValueError, match='is not the config of a Mask R-CNN of mmdet'):
        resnet18_mask_rcnn(Config(dict(model=dict(type='EncoderDecoder'))), 1)


def test_boxes_are_float32_under_autocast():
    anchors, boxes = [], []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = resnet18_faster_rcnn(read(BOXES), 1)
        model.rpn.anchor_generator.register_forward_hook(lambda *call: anchors.append(call[-1][0]))
        model.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, inputs: boxes.extend(inputs[1]))
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            losses = model([torch.rand(3, 200, 200)], [{'boxes': torch.tensor([[100.25, 101.5, 181.75, 190.125]]),
                                                        'labels': torch.tensor([1])}])
        assert all(loss.isfinite() for loss in losses.values())
    assert_close(anchors[0], anchors[1], rtol=0, atol=0)
    assert [found.dtype for found in boxes] == [torch.float32] * 2


def test_faster_rcnn_is_mask_rcnn_without_its_masks():
    with_masks, boxes = ({name: tensor.shape for name, tensor in build(cfg, 2).state_dict().items()}
                         for build, cfg in ((resnet18_mask_rcnn, read(DETECTION)), (resnet18_faster_rcnn, read(BOXES))))
    assert boxes == {name: shape for name, shape in with_masks.items() if 'mask' not in name}


def test_a_config_with_masks_needs_the_other_peer():
    with pytest.raises(ValueError, match='choose the peer mask-rcnn'):
        resnet18_faster_rcnn(read(DETECTION), 1)
    with pytest.raises(ValueError, match=r'is not the config of a Mask R-CNN of mmdet .*another task'):
        resnet18_mask_rcnn(read(BOXES), 1)
