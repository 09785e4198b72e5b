"""Reports the images that a pretraining run skips because they cannot be read."""
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Lists unreadable images in `bad_images.txt` of the work directory and logs their number after each epoch.

    All processes append to the same list. Their counts are summed.
    """

    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        """Sets the path of the list, before the workers start and inherit it."""
        runner.train_dataloader.dataset.bad.list_file = Path(runner.work_dir, 'bad_images.txt')

    def after_train_epoch(self, runner: Runner) -> None:
        """Logs the counts if there are unreadable images."""
        bad = runner.train_dataloader.dataset.bad
        counts = torch.tensor(bad.counts)
        all_reduce(counts)
        drawn, unreadable = counts.tolist()
        if unreadable:
            runner.logger.info(f'{unreadable} of {drawn} drawn images could not be read and were replaced by others; '
                               f'{bad.list_file} lists them')
