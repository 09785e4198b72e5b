"""Learning rates of the recipes in every iteration, compared with the schedules of their sources."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.config_files import CONFIGS, DETECTION, FINETUNE, LINEAR, PRETRAIN, SEGMENTATION, learning_rates

GOLDEN = json.loads((Path(__file__).parents[1] / 'golden' / 'optim.json').read_text())  # from the public code


@pytest.mark.parametrize(('file', 'epochs', 'warmup', 'peak', 'lowest'), [
    *((file, int(re.search(r'_(\d+)e_', file)[1]), 40, 2.4e-3, 0) for file in CONFIGS if '/pretrain/' in file),
    (FINETUNE, 100, 5, 2e-3, 1e-6), ('configs/classification/vit-l_50e_in1k.py', 50, 5, 4e-3, 1e-6),
    (LINEAR, 90, 10, 6.4, 0), ('configs/classification/vit-l_linear_50e_in1k.py', 50, 10, 6.4, 0)])
def test_schedules_in_epochs_match_the_public_mae(file: str, epochs: int, warmup: int, peak: float, lowest: float):
    """facebookresearch/mae util/lr_sched.py; mmengine ends the warm-up one iteration earlier."""
    length = 20
    actual = learning_rates(file, epochs * length, length)
    epoch = np.arange(epochs * length) / length
    cosine = lowest + (peak - lowest) / 2 * (1 + np.cos(np.pi * (epoch - warmup) / (epochs - warmup)))
    expected = np.where(epoch < warmup, peak * epoch / warmup, cosine)
    np.testing.assert_allclose(actual, expected, rtol=1 / (warmup * length - 2), atol=1e-8 * peak)


def test_pretraining_matches_the_rates_recorded_from_the_public_mae():
    actual = learning_rates(PRETRAIN, 500 * 50, epoch_length=50)
    recorded = {epoch: lr for epoch, lr in GOLDEN['pretrain_lr_800e'] if epoch * 50 % 1 == 0 and epoch < 500}
    assert len(recorded) >= 6
    assert [actual[int(epoch * 50)] for epoch in recorded] == pytest.approx([*recorded.values()], rel=1e-3, abs=1e-11)


def test_vitdet_matches_detectron2():
    actual = learning_rates(DETECTION, 184_375)
    np.testing.assert_allclose(actual[:252], 1e-4 * np.minimum(1, 0.001 + 0.999 * np.arange(252) / 250))
    expected = {163_888: 1e-4, 163_889: 1e-5, 177_545: 1e-5, 177_546: 1e-6, 184_374: 1e-6}
    assert {step: actual[step] for step in expected} == pytest.approx(expected)


def test_segmentation_matches_mmseg():
    actual = learning_rates(SEGMENTATION, 160_000)
    expected = {0: 1e-10, 750: 0.5e-4, 1500: 1e-4, 80_750: 0.5e-4, 159_999: 0}
    assert {step: actual[step] for step in expected} == pytest.approx(expected, rel=2e-3, abs=1e-9)
