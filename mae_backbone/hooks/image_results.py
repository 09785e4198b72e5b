"""Hook that writes which validation images were classified correctly."""
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.registry import HOOKS
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.run_logs import IMAGE_RESULTS


@HOOKS.register_module()
class ImageResultsHook(Hook):
    """Writes `IMAGE_RESULTS` after each validation: a list with 1 for each correctly classified image, otherwise 0.

    The images are in the order of the validation set. In a distributed run nothing is written. The model must return
    predictions like `ViTClassifier`: dict(scores=(num_classes,), label=int).
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self.correct: list[int] = []

    def before_val_epoch(self, runner: Runner) -> None:
        """Starts a new list."""
        self.correct = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: Sequence[dict] | None = None) -> None:
        """Adds the images of a batch."""
        for output in outputs or ():
            self.correct.append(int(int(torch.as_tensor(output['scores']).argmax()) == int(output['label'])))

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Writes the file."""
        if get_world_size() == 1:
            write_text(Path(runner.work_dir, IMAGE_RESULTS), json.dumps(self.correct))
