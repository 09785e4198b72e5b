"""Training steps of detectors and segmenters. Needs mmengine, mmdet and mmseg."""
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mae_backbone.benchmark.batches import Shape
from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.measure import speed


def throughput(settings: Settings, *, config: str, tiny: str, batch: int, side: int, num_classes: int,
               aim: int | None = None) -> Rows:
    """Images per second of training steps in bfloat16, and milliseconds of their parts.

    Args:
        settings: of the checks.
        config, tiny: names of the config, and of the one for --tiny.
        batch: images of a step.
        side: of the images, in pixels.
        num_classes: of the labels.
        aim: images per second to reach on an H200.
    """
    from mmengine.config import Config

    from mae_backbone.benchmark import train
    cfg = Config.fromfile(train.find(tiny if settings.tiny else config))
    shape = Shape(2, (128, 128), 1) if settings.tiny else Shape(batch, (side, side), num_classes)
    cfg.model.backbone.init_cfg = None
    if settings.device == 'cuda':
        guarded = cfg.optim_wrapper.type == 'mae_backbone.GuardedOptimWrapper'
        cfg.optim_wrapper.update(dtype='bfloat16', **({} if guarded else dict(type='AmpOptimWrapper', loss_scale=1.0)))
    with TemporaryDirectory() as folder:
        path = str(Path(folder, 'config.py'))
        cfg.dump(path)
        step = train.build(path, shape, torch.device(settings.device))
    parts: dict[str, Any] = {}
    losses: list[float] = []

    def work() -> None:
        seconds, numbers = step()
        parts.update({f'{name} ms': 1e3 * value for name, value in seconds.items()})
        losses.append(numbers['loss'])
    figures = speed(work, settings, images=shape.images, steps=3, aim=aim)
    finite = bool(torch.tensor(losses).isfinite().all())
    yield f'batch {shape.images}, {shape.size[0]} pixels', {**figures, **parts, 'loss': losses[-1], 'ok': finite}
