"""The mask ratio changes linearly over training."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS

from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import ViT
from mae_backbone.hooks.mask_schedule import MaskRatioHook


def test_ratio_is_linear_in_the_iteration():
    hook = HOOKS.build(dict(type='mae_backbone.MaskRatioHook', start=0.9, end=0.5))
    assert [hook.ratio(i, 5) for i in (0, 2, 4)] == pytest.approx([0.9, 0.7, 0.5])
    assert hook.ratio(0, 1) == 0.9


def test_model_masks_by_the_schedule():
    mae = MAE(ViT(dict(width=32, depth=1, heads=2), image_size=32, patch_size=8), decoder_width=16, decoder_depth=1,
              decoder_heads=2)
    runner = SimpleNamespace(model=SimpleNamespace(mae=mae), iter=0, max_iters=3)
    hidden = []
    for runner.iter in range(3):
        MaskRatioHook(start=0.25, end=0.75).before_train_iter(runner, runner.iter)
        hidden.append(mae(torch.zeros(1, 3, 32, 32))[2].ids_hidden.shape[1])
    assert hidden == [4, 8, 12]


@pytest.mark.parametrize(('start', 'end'), [(0.0, 0.5), (0.5, 1.0)])
def test_ratio_out_of_range_raises(start: float, end: float):
    with pytest.raises(ValueError, match='must be in'):
        MaskRatioHook(start=start, end=end)
