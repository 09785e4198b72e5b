"""A small suite and a small MAE."""
from pathlib import Path

import torch

from mae_backbone.models.pretrainer import MAEPretrainer

CONFIG = ('model = dict(type="mae_backbone.MAEPretrainer", decoder_width=16, decoder_depth=1, decoder_heads=2, '
          'encoder=dict(arch=dict(width=16, depth=2, heads=4)))')
SUITE = '''
title = 'Small'
data = dict(images='.')
tasks = dict(knn=dict(probe='knn', data=['images'], options=dict(k=K)))
'''


def save_mae(path: Path) -> Path:
    """A checkpoint as tools/pretrain.py writes it, of random weights."""
    torch.manual_seed(0)
    model = MAEPretrainer(
        dict(arch=dict(width=16, depth=2, heads=4), image_size=16, patch_size=4), decoder_width=16, decoder_depth=1,
        decoder_heads=2, compile=False,
        data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[127.5] * 3, std=[70.0] * 3))
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=CONFIG)), path)
    return path
