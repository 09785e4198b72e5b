"""Content of the checkpoint of a small run."""
import io
from collections import Counter

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from mae_backbone.core.vit import ViT


def vit() -> ViT:
    torch.manual_seed(0)
    return ViT(dict(width=8, depth=1, heads=2), image_size=8, patch_size=4)


def run_content() -> dict:
    """A checkpoint of a run as MMEngine's Runner writes it: log history, optimizer, schedulers."""
    model, history = vit(), HistoryBuffer()
    for value in (2.0, 1.5):
        history.update(value)
    optimizer = torch.optim.AdamW(model.parameters())
    model.encode(model.embed(torch.ones(1, 3, 8, 8))).sum().backward()
    optimizer.step()
    return dict(meta=dict(epoch=1, iter=2, seed=0, cfg='a = 1', dataset_meta=dict(classes=('a', 'b'))),
                state_dict=model.state_dict(), optimizer=optimizer.state_dict(),
                message_hub=dict(log_scalars={'train/loss': history}, runtime_info=dict(iter=np.int64(2)),
                                 resumed_keys={'train/loss': True}),
                param_schedulers=[dict(milestones=Counter([3]), last_step=2)])


def torch_file(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()
