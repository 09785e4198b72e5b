"""Checkpoint files of small encoders."""
from pathlib import Path

import torch

from mae_backbone.core.vit import ViT

CONFIG = '''
import os
patch_size = 4
model = dict(type='mae_backbone.MAEPretrainer', encoder=dict(arch=dict(depth=2, heads=4, width=16)),
             data_preprocessor=dict(mean=[1.0, 2, 3], std=(4.0, 5, 6)))
bad = os.system('touch ran')
negative = -1.5
'''


def save(path: Path, *, config: str | None = None, heads: int = 4, prefix: str = 'mae.encoder.', **options) -> Path:
    vit = ViT(dict(width=16, depth=2, heads=heads), **{'image_size': 16, 'patch_size': 4, **options})
    weights = {prefix + name: value for name, value in vit.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=weights, meta={} if config is None else dict(cfg=config)), path)
    return path
