"""Parameter groups of the recipes: learning rate and weight decay of every parameter, compared with the public code."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.config_files import DETECTION, FINETUNE, LINEAR, PRETRAIN, model_of, optimizer_of, settings_of
from torch import nn

GOLDEN = json.loads((Path(__file__).parents[1] / 'golden' / 'optim.json').read_text())  # from the public code


def test_pretraining_decays_everything_except_biases_and_norms():
    settings = settings_of(PRETRAIN)
    shapes = dict(model_of(PRETRAIN).named_parameters())
    assert not any('pos_embed' in name for name in settings)  # fixed
    assert {'mae.encoder.cls_token', 'mae.decoder.mask_token'} <= settings.keys()
    assert settings == {name: (1.0, 0.0 if shapes[name].ndim == 1 else 0.05) for name in settings}


def test_fine_tuning_matches_the_optimizer_of_the_public_mae():
    actual = {name.removeprefix('backbone.'): setting for name, setting in settings_of(FINETUNE).items()}
    assert actual.keys() == GOLDEN['finetune_vit_b'].keys()
    for name, setting in GOLDEN['finetune_vit_b'].items():
        assert actual[name] == pytest.approx(setting), name


@pytest.mark.parametrize(('file', 'depth'), [('configs/classification/vit-l_50e_in1k.py', 24),
                                             ('configs/classification/vit-h_50e_in1k.py', 32)])
def test_layer_decay_of_large_models_starts_at_the_last_layer(file: str, depth: int):
    settings = settings_of(file)
    assert settings['head.weight'] == (1.0, 0.05)
    assert settings[f'backbone.blocks.{depth - 1}.mlp.fc1.weight'] == pytest.approx((0.75, 0.05))
    assert settings['backbone.pos_embed'] == pytest.approx((0.75 ** (depth + 1), 0.0))


def test_vitdet_matches_the_optimizer_of_detectron2():
    settings = settings_of(DETECTION)
    for name, (scale, decay) in settings.items():
        detectron2_name = name.replace('backbone.', 'backbone.net.')
        detectron2_name = re.sub(r'rel_pos_[hw]$', 'proj.weight', detectron2_name)  # same block, same rate
        assert scale == pytest.approx(GOLDEN['vitdet_b_lr_scale'].get(detectron2_name, 1.0)), name
        exempt = re.fullmatch(r'backbone\.(pos_embed|blocks\.\d+\.norm[12]\.(weight|bias))', name)
        assert decay == (0.0 if exempt else 0.1), name
    assert {'neck.simfp_4.0.norm.weight', 'roi_head.mask_head.convs.0.ln.weight', 'backbone.blocks.2.attn.rel_pos_h',
            'backbone.blocks.2.attn.qkv.bias', 'rpn_head.rpn_conv.1.conv.bias'} <= settings.keys()


def test_probe_trains_only_its_head():
    assert settings_of(LINEAR).keys() == {'head.weight', 'head.bias'}


def test_probing_updates_match_the_public_mae():
    """facebookresearch/mae util/lars.py: trust ratio |w| / |gradient| for matrices, plain SGD for vectors, no decay."""
    torch.manual_seed(0)
    head = nn.Linear(5, 3)
    optimizer = optimizer_of(LINEAR, head)
    expected = [p.detach().double().numpy().copy() for p in head.parameters()]
    momenta = [0.0, 0.0]
    for _ in range(3):
        gradients = [torch.randn_like(p) for p in head.parameters()]
        for p, gradient in zip(head.parameters(), gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        for i, gradient in enumerate(gradient.double().numpy() for gradient in gradients):
            if gradient.ndim > 1:
                gradient = 0.001 * np.linalg.norm(expected[i]) / np.linalg.norm(gradient) * gradient
            momenta[i] = 0.9 * momenta[i] + gradient
            expected[i] = expected[i] - 6.4 * momenta[i]
    for p, value in zip(head.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-5)
