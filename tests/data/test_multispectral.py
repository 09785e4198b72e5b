"""Images with twelve 16-bit channels are pretrained with the demo config."""
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mae_backbone.engine.runner import Runner
from mae_backbone.hooks.scalar_history import history

CONFIG = Path(__file__).parents[2] / 'configs/demo/mae_vit-micro_multispectral.py'


@pytest.mark.slow
def test_step_on_arrays_of_twelve_channels(tmp_path: Path):
    generator = np.random.default_rng(0)
    for i in range(8):
        pixels = generator.normal(1500, 800, (110, 120, 12)).clip(0, 10_000).astype(np.uint16)
        (tmp_path / 'images').mkdir(exist_ok=True)
        np.save(tmp_path / 'images' / f'{i}.npy', pixels)
    cfg = Config.fromfile(CONFIG)
    cfg.merge_from_dict({
        'work_dir': str(tmp_path / 'run'), 'train_dataloader.batch_size': 4, 'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False, 'train_cfg.max_epochs': 1, 'param_scheduler': [],
        'train_dataloader.dataset.data_root': str(tmp_path / 'images'), 'default_hooks.logger.interval': 1})
    runner = Runner.from_cfg(cfg)
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert history(runner.message_hub, 'rank')[0].tolist() == [0, 2]
    assert cv2.imread(str(tmp_path / 'run' / 'training.png')) is not None
    assert cv2.imread(str(tmp_path / 'run' / 'reconstructions' / 'epoch_1.png')).std() > 10
