"""Says which images a pretraining run leaves out, and how many."""
from pathlib import Path

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Lists images that cannot be read in `bad_images.txt` of the work directory, and counts them after each epoch.

    All processes write into the one list; what they count is added up.
    """

    priority = 'LOW'

    def before_train(self, runner: Runner) -> None:
        """Before the workers start, which inherit the name of the list."""
        runner.train_dataloader.dataset.bad.list_file = Path(runner.work_dir, 'bad_images.txt')

    def after_train_epoch(self, runner: Runner) -> None:
        """A line in the log where there were any."""
        bad = runner.train_dataloader.dataset.bad
        counts = torch.tensor(bad.counts)
        all_reduce(counts)
        seen, met = counts.tolist()
        if met:
            runner.logger.info(f'{met} of {seen} images drawn until now could not be read, others took their place: '
                               f'{bad.list_file} has the names')
