"""MMEngine's Runner with checkpoints that are safe to read, fit exactly, and are never half-written."""
import datetime
import io
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path

import mmengine.runner
import numpy as np
import torch
import yapf.yapflib.yapf_api
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.logging import HistoryBuffer
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.utils import apply_to
from torch import distributed as dist
from torch import nn

from mae_backbone.checkpoints.detectron2 import from_detectron2
from mae_backbone.checkpoints.encoder import CheckpointError, load_encoder, mismatches, read_checkpoint, read_weights
from mae_backbone.checkpoints.files import last_whole, remove_parts, write_line, write_whole
from mae_backbone.data.num_workers import tune
from mae_backbone.engine.fsdp import FullyShard, gathered, scattered

_LOG = logging.getLogger(__name__)

# MMEngine sets the same config four times at the start of a run and once a checkpoint, at a second or more each.
_set_nicely = yapf.yapflib.yapf_api.FormatCode


@lru_cache(maxsize=4)
def _set_once(text: str, style: tuple) -> tuple[str, bool]:
    return _set_nicely(text, style_config=dict(style))


yapf.yapflib.yapf_api.FormatCode = lambda text, style_config, **_: _set_once(text, tuple(sorted(style_config.items())))


class Runner(mmengine.runner.Runner):
    """Trains and tests like its parent; differs in how checkpoints are read and written, and runs on several CPUs."""

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

        A model without anything but a backbone (nearest neighbors) takes the encoder of any checkpoint; every other
        wants its own names, all of them.

        Raises:
            CheckpointError: the file is damaged, names code, or does not fit the model.
        """
        model = self._bare_model()
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

    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True, meta: dict | None = None,
                        by_epoch: bool = True, backend_args: dict | None = None) -> None:
        """Writes a checkpoint as mmengine's Runner does, so that one of that name is always a whole one.

        All processes must call it: each has a part of a sharded model. Process 0 writes.

        Raises:
            DiskFullError: there is no room; nothing has changed.
            ValueError: another place than a folder is asked for.
        """
        if file_client_args or backend_args:
            raise ValueError('checkpoints are written to folders: remove file_client_args and backend_args from '
                             'default_hooks.checkpoint, and mount the storage')
        # An epoch that ends is counted after its hooks, as is an iteration.
        place = dict(epoch=self.epoch + 1, iter=self.iter) if by_epoch else dict(epoch=self.epoch, iter=self.iter + 1)
        content = {'meta': self._about() | place | (meta or {}),
                   'state_dict': to_cpu(gathered(self._bare_model().state_dict())),
                   'message_hub': to_cpu(self.message_hub.state_dict())}
        if save_optimizer:
            content['optimizer'] = to_cpu(gathered(self.optim_wrapper.state_dict()))
        if save_param_scheduler and self.param_schedulers is not None:
            schedulers = self.param_schedulers
            content['param_schedulers'] = (
                {name: [one.state_dict() for one in several] for name, several in schedulers.items()}
                if isinstance(schedulers, dict) else [one.state_dict() for one in schedulers])
        if is_main_process():
            self.call_hook('before_save_checkpoint', checkpoint=content)
            write_whole(content, Path(out_dir, filename))

    def note_checkpoint(self, path: str | Path) -> None:
        """Notes the checkpoint that --resume takes."""
        if is_main_process():
            write_line(str(path), Path(self.work_dir, 'last_checkpoint'))

    def return_to(self, filename: str | Path) -> None:
        """Takes the weights and the optimizer's moments of a checkpoint; data, learning rate and log go on."""
        checkpoint = self.load_checkpoint(str(filename))
        if 'optimizer' in checkpoint:
            self.optim_wrapper.return_to(checkpoint['optimizer'])

    def train(self) -> nn.Module:
        """Trains; first removes what a killed run left half-written."""
        if is_main_process():
            for part in remove_parts(self.work_dir):
                self.logger.info(f'{part} removed: a killed run was writing it')
        if isinstance(self._train_dataloader, dict) and self._train_dataloader.get('num_workers') == 'auto':
            self.logger.info(self.tune_loader())
        return super().train()

    def tune_loader(self) -> str:
        """Measures how many processes should load images where the config says 'auto'; returns a line for the plan."""
        return tune(self._train_dataloader, self.model)

    def setup_env(self, env_cfg: dict) -> None:
        """As mmengine, which knows distributed runs on GPUs alone."""
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            start_on_cpus(self.launcher, **env_cfg.get('dist_cfg', {}))
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As mmengine, but for its device_ids, which DistributedDataParallel refuses on CPUs."""
        plain = model_wrapper_cfg is None or 'type' not in model_wrapper_cfg
        if self.distributed and plain and not is_model_wrapper(model) and get_device() == 'cpu':
            options = dict(broadcast_buffers=False,
                           find_unused_parameters=self.cfg.get('find_unused_parameters', False))
            return MMDistributedDataParallel(module=model, **options | dict(model_wrapper_cfg or {}))
        if not self.distributed and model_wrapper_cfg is not None:
            self.logger.info('one process: the model is not wrapped')
        return super().wrap_model(model_wrapper_cfg, model)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """As mmengine, with checkpoints of which the last one is always whole."""
        hooks = dict(hooks or {})
        checkpoint = hooks.get('checkpoint', dict(type='CheckpointHook', interval=1))
        if isinstance(checkpoint, dict) and checkpoint.get('type') == 'CheckpointHook':
            hooks['checkpoint'] = {**checkpoint, 'type': 'mae_backbone.WholeCheckpointHook'}
        super().register_default_hooks(hooks)

    def _init_model_weights(self) -> None:
        if not isinstance(self.model, FullyShard):  # which has done it before it sharded them
            super()._init_model_weights()

    def _bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _about(self) -> dict:
        """What a checkpoint says of its run."""
        about = dict(cfg=self.cfg.pretty_text, seed=self.seed, experiment_name=self.experiment_name,
                     time=time.strftime('%Y%m%d_%H%M%S', time.localtime()), mmengine_version=mmengine.__version__)
        metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None)
        return about if metainfo is None else about | dict(dataset_meta=metainfo)


def start_on_cpus(launcher: str, *, backend: str = 'gloo', timeout: float | None = None, **_: object) -> None:
    """Joins a run of several processes on CPUs, as torchrun and Slurm tell in the environment.

    Raises:
        ValueError: another launcher.
    """
    if launcher == 'slurm':
        _read_slurm()
    elif launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} on CPUs: start the run with torchrun and --launcher pytorch, or with '
                         'srun and --launcher slurm')
    dist.init_process_group('gloo' if backend == 'nccl' else backend,
                            timeout=None if timeout is None else datetime.timedelta(seconds=timeout))


def _read_slurm() -> None:
    """What torch reads, out of what Slurm sets, under the same names and defaults as mmengine."""
    environment = os.environ
    if 'MASTER_ADDR' not in environment:
        hosts = subprocess.run(['scontrol', 'show', 'hostname', environment['SLURM_NODELIST']], check=True, text=True,
                               capture_output=True).stdout
        environment['MASTER_ADDR'] = hosts.split()[0]
    environment.setdefault('MASTER_PORT', '29500')
    environment.update(RANK=environment['SLURM_PROCID'], WORLD_SIZE=environment['SLURM_NTASKS'],
                       LOCAL_RANK=environment.get('SLURM_LOCALID', '0'))


def to_cpu(tree: object) -> object:
    """The same with every tensor on the CPU."""
    return apply_to(tree, lambda x: hasattr(x, 'cpu'), lambda x: x.cpu())


def load_whole(model: nn.Module, checkpoint: dict, path: str | Path) -> None:
    """Puts a checkpoint of tools/train.py or tools/pretrain.py into `model`; raises CheckpointError unless all fits."""
    weights = {name.removeprefix('module.'): value for name, value in checkpoint['state_dict'].items()}
    problem = mismatches(weights, model.state_dict())
    if problem:
        raise CheckpointError(f'{path} does not fit the model of this config.\n{problem}'
                              'Pass the config that the checkpoint was trained with (it lies in its work directory).')
    wanted = model.state_dict()
    model.load_state_dict({name: scattered(value, wanted[name]) for name, value in weights.items()})


def read_run(path: str | Path) -> dict:
    """A checkpoint of MMEngine with its optimizer and log history, read without running code.

    The text of its config is dropped: MMEngine would run it on resuming.
    """
    if Path(path).suffix == '.pkl':  # of detectron2
        return dict(state_dict=from_detectron2(read_weights(path)), meta={})
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
    """What `--resume` means: a path as it stands; 'auto' the latest whole checkpoint of the work directory, if any.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    if resume != 'auto':
        return resume
    damaged: dict[Path, str] = {}
    latest = last_whole(work_dir, damaged)
    for path, problem in damaged.items() if os.environ.get('RANK', '0') == '0' else ():
        _LOG.warning('%s is damaged (%s): passed over for %s', path, problem, latest)
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
