"""Hook that draws reconstructions of fixed images during pretraining."""
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from mae_backbone.core.patches import patchify
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.registry import HOOKS
from mae_backbone.utils.image_grid import save_picture, side_by_side


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draws original | masked | reconstruction of the same images with the same masks at intervals.

    Args:
        interval: epochs between two pictures. There is also one at the end.
        by_epoch: False to count the interval in iterations.
        images: number of training images to show, evenly spaced.
        channels: three channels to show as red, green and blue. None takes the first three, or the first channel as
            gray if there are fewer than three.

    Raises:
        ValueError: `channels` are not three channels of the images.
    """

    priority = 'LOW'

    def __init__(self, *, interval: int = 10, by_epoch: bool = True, images: int = 6,
                 channels: Sequence[int] | None = None) -> None:
        self.interval, self.by_epoch, self.number, self.channels = interval, by_epoch, images, channels
        self.images: list[Tensor] = []

    def before_train(self, runner: Runner) -> None:
        """Chooses the images, without changing the random numbers of training."""
        dataset = runner.train_dataloader.dataset
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            steps = np.linspace(0, len(dataset) - 1, min(self.number, len(dataset))).astype(int)
            self.images = [dataset[int(i)]['inputs'] for i in steps]
        number = len(self.images[0]) if self.images else 0
        if self.channels is not None and (len(self.channels) != 3 or not set(self.channels) <= {*range(number)}):
            raise ValueError(f'ReconstructionHook has channels={self.channels}, expected three from 0 to {number - 1}, '
                             f'because the images have {number} channels')

    def after_train_epoch(self, runner: Runner) -> None:
        """Draws if the interval or training ends with this epoch."""
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner)):
            self.draw(runner, f'epoch_{runner.epoch + 1}.png')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Draws if the interval or training ends with this iteration."""
        if not self.by_epoch and (self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)):
            self.draw(runner, f'iter_{runner.iter + 1}.png')

    def draw(self, runner: Runner, name: str) -> None:
        """Writes the figure `name` to the folder `reconstructions` of the work directory.

        All processes must compute it, because each may have only a part of the weights. Process 0 writes the file.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        picture = draw_reconstructions(model, self.images, channels=self.channels)
        if is_main_process():
            folder = Path(runner.work_dir, 'reconstructions')
            folder.mkdir(exist_ok=True)
            save_picture(str(folder / name), picture)


def draw_reconstructions(model: MAEPretrainer, images: list[Tensor], *, seed: int = 0,
                         mask_ratio: float | None = None, channels: Sequence[int] | None = None) -> np.ndarray:
    """images (C, H, W) of equal size, an `MAEPretrainer` -> picture (H, W, 3) uint8 RGB with one row per image."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    rows, hidden = reconstruct(model, images, generator=generator, mask_ratio=mask_ratio, channels=channels)
    return side_by_side([list(row) for row in rows], reconstruction_titles(hidden[0]))


@torch.no_grad()
def reconstruct(model: MAEPretrainer, images: list[Tensor], *, generator: torch.Generator,
                mask_ratio: float | None = None, channels: Sequence[int] | None = None
                ) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Masks images and reconstructs them.

    Args:
        model: as it is in training or in evaluation mode, which it keeps.
        images: B images (C, H, W) of equal size.
        generator: random generator of the masks, on the device of the model.
        mask_ratio: fraction of hidden patches; by default as in pretraining.
        channels: as in `ReconstructionHook`.

    Returns:
        For each image the original, the masked image and the reconstruction, (H, W, 3) uint8 RGB; and which patches
        were hidden, (B, h, w) bool.
    """
    was_training, mae = model.training, model.mae
    if was_training:
        model.eval()
    inputs = model.data_preprocessor({'inputs': images})['inputs']
    patches = patchify(inputs, mae.encoder.patch_size)
    noise = torch.rand(patches.shape[:2], generator=generator, device=patches.device)
    masking, grid = copy(mae.masking), mae.encoder.check(inputs)
    masking.ratio = mae.mask_ratio if mask_ratio is None else mask_ratio
    mask = masking(noise, grid)
    masked, filled = model(inputs, mask=mask, mode='reconstruct')
    if was_training:
        model.train()
    rows = [tuple(to_pixels(image, model.data_preprocessor, channels) for image in row)
            for row in zip(inputs, masked, filled, strict=True)]
    return cast(list, rows), mask.hidden.unflatten(1, grid).cpu().numpy()


def reconstruction_titles(hidden: np.ndarray) -> list[str]:
    """Titles of the columns of a picture, for hidden patches (h, w)."""
    return ['original', f'{hidden.mean():.0%} hidden', 'reconstruction']


def to_pixels(image: Tensor, preprocessor: Any, channels: Sequence[int] | None = None) -> np.ndarray:
    """normalized image (C, H, W) -> (H, W, 3) uint8 RGB: inverts the normalization of the data preprocessor.

    For 16-bit pixels, two standard deviations around the mean are mapped to the range from black to white. `channels`
    is explained in `ReconstructionHook`.
    """
    normalized = preprocessor._enable_normalize
    if normalized and preprocessor.mean.max() > 255:
        pixels = 127.5 + 63.75 * image.float()
    else:
        pixels = image.float() * preprocessor.std + preprocessor.mean if normalized else image.float()
    rgb = list(channels or ((0, 1, 2) if len(image) >= 3 else (0, 0, 0)))
    return pixels[rgb].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy()
