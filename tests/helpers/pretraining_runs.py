"""Tiny pretrainings for the tests of what is watched while they go on."""
import itertools
from pathlib import Path

import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

COUNT = itertools.count()


def model_config(channels: int = 3) -> dict:
    return dict(type='mae_backbone.MAEPretrainer', decoder_width=8, decoder_depth=1, decoder_heads=1,
                encoder=dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=4, in_channels=channels),
                data_preprocessor=dict(type='mae_backbone.PixelPreprocessor', mean=[120.0] * channels,
                                       std=[60.0] * channels))


class RandomCrops(Dataset):
    """As those of a pretraining, drawn from torch's random numbers; of two classes that brightness tells apart."""

    def __init__(self, number: int = 8, *, labels: bool = False) -> None:
        self.number, self.labels = number, labels

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, i: int) -> dict:
        image = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
        return dict(inputs=image // 4 + 100 * (i % 2), data_samples=i % 2) if self.labels else dict(inputs=image)


def runner(work_dir: Path, hooks: list[dict], train_cfg: dict, *, interval: int = 50, images: int = 8, lr: float = 1e-3,
           checkpoint: dict | None = None, logger: str = 'LoggerHook', **options: object) -> Runner:
    """Batches of 4 images; `interval` of the log."""
    by_epoch = train_cfg['by_epoch']
    return Runner(
        model=model_config(), work_dir=str(work_dir), experiment_name=f'pretraining-{next(COUNT)}',
        train_dataloader=dict(dataset=RandomCrops(images), batch_size=4, num_workers=0,
                              sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler'),
                              collate_fn=dict(type='pseudo_collate')),
        train_cfg=train_cfg, optim_wrapper=dict(optimizer=dict(type='AdamW', lr=lr)), randomness=dict(seed=0),
        log_processor=dict(type='mae_backbone.PretrainLogProcessor', by_epoch=by_epoch),
        default_hooks=dict(checkpoint=checkpoint, logger=dict(type=logger, interval=interval),
                           device_log=dict(type='mae_backbone.DeviceLogHook')),
        custom_hooks=hooks, **options)


def log_of(work_dir: Path) -> str:
    """All that the runs in a work directory logged."""
    return '\n'.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))
