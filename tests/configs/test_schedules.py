"""Learning rates of the recipes in every iteration, compared with the schedules of their sources."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.config_files import CONFIGS, DETECTION, FINETUNE, LINEAR, PRETRAIN, SEGMENTATION, learning_rates, read

GOLDEN = json.loads((Path(__file__).parents[1] / 'golden' / 'optim.json').read_text())  # from the public code
TOLERANCE = 1e-6  # of the peak


@pytest.mark.parametrize(('file', 'epochs', 'warmup', 'peak', 'lowest'), [
    *((file, int(found[1]), 40, 2.4e-3, 0) for file in CONFIGS
      if '/pretrain/' in file and (found := re.search(r'_(\d+)e_', file))),
    *((file, 100, 10, 8e-4, 0) for file in CONFIGS if file.endswith('_continue.py')),
    (FINETUNE, 100, 5, 2e-3, 1e-6), ('configs/classification/vit-l_50e_in1k.py', 50, 5, 4e-3, 1e-6),
    ('configs/classification/vit-b_scratch_300e_in1k.py', 300, 20, 1.6e-3, 0),
    ('configs/classification/vit-l_scratch_200e_in1k.py', 200, 20, 1.6e-3, 0),
    (LINEAR, 90, 10, 6.4, 0), ('configs/classification/vit-l_linear_50e_in1k.py', 50, 10, 6.4, 0)])
def test_schedules_in_epochs_match_the_public_mae(file: str, epochs: int, warmup: int, peak: float, lowest: float):
    """facebookresearch/mae util/lr_sched.py."""
    length = 20
    epoch = np.arange(epochs * length) / length
    cosine = lowest + (peak - lowest) / 2 * (1 + np.cos(np.pi * (epoch - warmup) / (epochs - warmup)))
    expected = np.where(epoch < warmup, peak * epoch / warmup, cosine)
    np.testing.assert_allclose(learning_rates(file, epochs * length, length), expected, rtol=0, atol=TOLERANCE * peak)


def test_pretraining_matches_the_rates_recorded_from_the_public_mae():
    actual = learning_rates(PRETRAIN, 500 * 50, epoch_length=50)
    recorded = {epoch: lr for epoch, lr in GOLDEN['pretrain_lr_800e'] if epoch * 50 % 1 == 0 and epoch < 500}
    assert len(recorded) >= 6
    expected = pytest.approx([*recorded.values()], rel=0, abs=TOLERANCE * 2.4e-3)
    assert [actual[int(epoch * 50)] for epoch in recorded] == expected


def detectron2_rates(max_iters: int, milestones: list[int], warmup_length: float, peak: float) -> np.ndarray:
    """Rates of detectron2's WarmupParamScheduler around MultiStepParamScheduler, with warmup_factor 0.001.

    `warmup_length` is a fraction of the training.
    """
    step = np.arange(max_iters)
    steps = 0.1 ** np.searchsorted(milestones, step, side='right')
    return peak * np.where(step / max_iters < warmup_length, 0.001 + 0.999 * step / max_iters / warmup_length, steps)


@pytest.mark.parametrize(('name', 'max_iters', 'milestones', 'warmup_length', 'peak'), [
    ('mask-rcnn_vitdet-b_100e_coco', 184_375, [163_889, 177_546], 250 / 184_375, 1e-4),
    # The file of ViT-H shortens the training and keeps the fraction of the warm-up: 187.5 iterations.
    ('mask-rcnn_vitdet-h_75e_coco', 138_281, [122_916, 133_159], 250 / 184_375, 1e-4),
    ('mask-rcnn_vitdet-b_100e_lvis', 156_250, [138_889, 150_463], 250 / 156_250, 2e-4)])
def test_vitdet_matches_detectron2(name: str, max_iters: int, milestones: list[int], warmup_length: float, peak: float):
    """detectron2 projects/ViTDet/configs/{COCO,LVIS}."""
    expected = detectron2_rates(max_iters, milestones, warmup_length, peak)
    actual = learning_rates(f'configs/detection/{name}.py', max_iters)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * peak)


@pytest.mark.parametrize(('epochs', 'max_iters'), [(100, 184_375), (50, 92_187), (25, 46_093)])
def test_vit_fpn_matches_mimdet(epochs: int, max_iters: int):
    """MIMDet configs/benchmarking: detectron2's WarmupParamScheduler around fvcore's CosineParamScheduler(1, 0).

    The warm-up of a quarter of an epoch is linear from 0.001 to the cosine's value at its end.
    """
    warmup, step = 0.25 * 118_000 / 64, np.arange(max_iters)

    def cosine(at: np.ndarray | float) -> np.ndarray:
        return 0.5 * (1 + np.cos(np.pi * at / max_iters))
    line = 0.001 + (cosine(warmup) - 0.001) * step / warmup
    expected = 8e-5 * np.where(step < warmup, line, cosine(step))
    actual = learning_rates(f'configs/detection/mask-rcnn_vit-fpn-b_{epochs}e_coco.py', max_iters)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * 8e-5)


@pytest.mark.parametrize('name', [
    'cascade-mask-rcnn_vitdet-b_100e_coco', 'cascade-mask-rcnn_vitdet-h_75e_coco', 'mask-rcnn_vitdet-l_100e_coco',
    'cascade-mask-rcnn_vitdet-b_100e_lvis', 'mask-rcnn_vitdet-h_100e_lvis', 'faster-rcnn_vitdet-b_100e_coco'])
def test_recipes_of_one_length_have_one_schedule(name: str):
    compared = {'100e_coco': DETECTION, '75e_coco': 'configs/detection/mask-rcnn_vitdet-h_75e_coco.py',
                '100e_lvis': 'configs/detection/mask-rcnn_vitdet-b_100e_lvis.py'}[name.split('-')[-1].split('_', 1)[1]]
    cfg, expected = read(f'configs/detection/{name}.py'), read(compared)
    assert (cfg.param_scheduler, cfg.train_cfg) == (expected.param_scheduler, expected.train_cfg)


def test_segmentation_matches_mmseg():
    rates = learning_rates(SEGMENTATION, 160_000)
    expected = {0: 1e-10, 750: 0.5e-4, 1500: 1e-4, 80_750: 0.5e-4, 159_999: 0}
    assert {step: rates[step] for step in expected} == pytest.approx(expected, rel=2e-3, abs=1e-9)
