"""MMEngine's Runner with checkpoints that are safe to read, fit exactly, and are never half-written."""
import io
import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import mmengine.runner
import numpy as np
from mmengine.dist import master_only
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from torch import nn

from mae_backbone.checkpoint import CheckpointError, load_encoder, mismatches, read_checkpoint


class Runner(mmengine.runner.Runner):
    """Trains and tests like its parent; differs in how checkpoints are read and written."""

    @classmethod
    def quietly_from_cfg(cls, cfg: mmengine.Config) -> 'Runner':
        """Builds a Runner; what MMEngine says meanwhile (environment, whole config) goes to the log file alone.

        What this package logs goes where the Runner's lines go from then on.
        """
        said = io.StringIO()
        with redirect_stdout(said):
            runner = cls.from_cfg(cfg)
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is said:
                handler.setStream(sys.stdout)
        ours = logging.getLogger('mae_backbone')
        ours.handlers, ours.propagate = runner.logger.handlers, False
        ours.setLevel(logging.INFO)
        return runner

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: object = None) -> dict:
        """Puts the weights of a checkpoint into the model and returns the whole checkpoint.

        A model without anything but a backbone (nearest neighbours) takes the encoder of any checkpoint; every other
        wants its own names, all of them.

        Raises:
            CheckpointError: the file is damaged, names code, or does not fit the model.
        """
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if is_encoder_only(model):
            load_encoder(model.backbone, filename)
            checkpoint = {}
        else:
            checkpoint = read_run(filename)
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            load_whole(model, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'weights loaded from {filename}')
        return checkpoint

    @master_only
    def save_checkpoint(self, out_dir: str, filename: str, *args, **options) -> None:
        """Writes beside the wanted name first, so that a checkpoint of that name is always a whole one."""
        part = Path(out_dir, filename + '.part')
        try:
            super().save_checkpoint(out_dir, part.name, *args, **options)
            os.replace(part, Path(out_dir, filename))
        finally:
            part.unlink(missing_ok=True)


def load_whole(model: nn.Module, checkpoint: dict, path: str | Path) -> None:
    """Puts a checkpoint of tools/train.py or tools/pretrain.py into `model`; raises CheckpointError unless all fits."""
    weights = {name.removeprefix('module.'): value for name, value in checkpoint['state_dict'].items()}
    problem = mismatches(weights, model.state_dict())
    if problem:
        raise CheckpointError(f'{path} does not fit the model of this config.\n{problem}'
                              'Pass the config that the checkpoint was trained with (it lies in its work directory).')
    model.load_state_dict(weights)


def read_run(path: str | Path) -> dict:
    """A checkpoint of MMEngine with its optimizer and log history, read without running code.

    The text of its config is dropped: MMEngine would run it on resuming.
    """
    checkpoint = read_checkpoint(path, allow=_RUN_PARTS)
    if not isinstance(checkpoint, dict) or 'state_dict' not in checkpoint or 'meta' not in checkpoint:
        raise CheckpointError(f'{path} holds no run of tools/train.py or tools/pretrain.py (no state_dict and meta): '
                              'pass one of those; weights of other origin go to --pretrained')
    checkpoint['meta'].pop('cfg', None)
    checkpoint['meta'].pop('config', None)
    return checkpoint


def is_encoder_only(model: nn.Module) -> bool:
    """Whether the model has no weights of its own beside a backbone."""
    return all(name.startswith('backbone.') for name in model.state_dict())


def resume_path(resume: str | None, work_dir: str | Path) -> str | None:
    """What `--resume` means: a path as it stands; 'auto' the latest whole checkpoint of the work directory, if any."""
    if resume != 'auto':
        return resume
    noted = Path(work_dir, 'last_checkpoint')
    latest = Path(noted.read_text(encoding='utf-8').strip()) if noted.is_file() else None
    if latest is None or not latest.is_file():  # killed after the old one was removed, before the new one was noted
        saved = [*Path(work_dir).glob('epoch_*.pth'), *Path(work_dir).glob('iter_*.pth')]
        latest = max(saved, key=lambda file: file.stat().st_mtime, default=None)
    return None if latest is None else str(latest)


def _history_method(owner: type, name: str) -> Callable:
    """Stands in for `getattr` in MMEngine's checkpoints, which name methods of HistoryBuffer by it."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise CheckpointError(f'the checkpoint asks for {owner!r}.{name}: only the log history may be asked')
    return getattr(owner, name)


# What MMEngine's checkpoints hold beside tensors: the log history, with NumPy arrays and scalars in it.
_RUN_PARTS = (HistoryBuffer, slice, (_history_method, 'builtins.getattr'),
              (np._core.multiarray.scalar, 'numpy._core.multiarray.scalar'),
              (np._core.multiarray.scalar, 'numpy.core.multiarray.scalar'),
              (np._core.multiarray._reconstruct, 'numpy._core.multiarray._reconstruct'),
              (np._core.multiarray._reconstruct, 'numpy.core.multiarray._reconstruct'),
              np.ndarray, np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.float32)), type(np.dtype(np.int64)))
