"""Pretrainings that end as a crash ends them."""
from pathlib import Path

import pytest
from helpers.micro_runs import micro_config
from mmengine.hooks import Hook

from mae_backbone.engine.runner import Runner


class Stop(Hook):
    """Ends a run as a crash does, after so many iterations."""

    priority = 'LOWEST'

    def __init__(self, after: int) -> None:
        self.after = after

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        if runner.iter + 1 == self.after:
            raise KeyboardInterrupt


def crash(folder: Path, images: Path, after: int, **options) -> None:
    cfg = micro_config(folder, images, **options)
    runner = Runner.quietly_from_cfg(cfg)
    runner.register_hook(Stop(after))
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    for hook in runner.hooks:
        if hasattr(hook, 'before') and hasattr(hook, 'grace'):
            hook.after_train(runner)
