"""Checkpoints of MMEngine's Runner: safe to read, an exact fit, and never half-written."""
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import mmengine.runner
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from mmengine.utils import apply_to
from torch import nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import load_model, merge_adapters, read_run, write_checkpoint, write_note
from mae_backbone.checkpoints.sharding import gather_on_first
from mae_backbone.core.vit import ViT
from mae_backbone.engine.loops import PretrainLoop
from mae_backbone.engine.provenance import description, num_images_of
from mae_backbone.engine.resuming import check_epoch_length, resume_optimizer
from mae_backbone.models.timm_vit import TimmViT


class CheckpointRunner(mmengine.runner.Runner):
    """MMEngine's Runner, which reads and writes checkpoints by `mae_backbone.checkpoints`."""

    optim_wrapper: OptimWrapper | OptimWrapperDict
    param_schedulers: list | dict | None
    _resume: bool

    def load_checkpoint(self, filename: str, map_location: str | Callable = 'cpu', strict: bool = True,
                        revise_keys: object = None) -> dict:
        """Loads the weights of a checkpoint into the model and returns the whole checkpoint.

        A model that is only a backbone (nearest neighbors) takes the encoder of any checkpoint. Any other model takes
        only a checkpoint that has exactly its names and shapes.

        Raises:
            CheckpointError: the file is damaged, names code, or does not fit the model.
        """
        model = self._bare_model()
        if is_encoder_only(model):
            backbone = model.backbone
            if isinstance(backbone, TimmViT):
                backbone.load_weights(filename)
            else:
                load_encoder(cast(ViT, backbone), filename)
            checkpoint: dict = {}
        else:
            checkpoint = read_run(filename)
            merge_adapters(checkpoint, model.state_dict())  # before hooks read the weights, such as EMAHook
            self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
            load_model(model, checkpoint, filename)
        self._has_loaded = True
        self.logger.info(f'weights loaded from {filename}')
        return checkpoint

    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: dict | None = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True, meta: dict | None = None,
                        by_epoch: bool = True, backend_args: dict | None = None) -> None:
        """Writes a checkpoint with the content of MMEngine's, completely or not at all.

        All processes must call it: each has a part of a sharded model. Process 0 writes.

        Raises:
            DiskFullError: the disk is full. No file has changed.
            ValueError: a storage other than a folder is asked for.
        """
        if file_client_args or backend_args:
            raise ValueError('checkpoints are written to folders: remove file_client_args and backend_args from '
                             'default_hooks.checkpoint, and mount the storage')
        # MMEngine counts an epoch and an iteration after the hooks that run at its end, such as the one that saves.
        position = dict(epoch=self.epoch + by_epoch, iter=self.iter + (not by_epoch))
        content = {'meta': self._meta() | position | (meta or {}),
                   'state_dict': to_cpu(gather_on_first(self._bare_model().state_dict())),
                   'message_hub': to_cpu(self.message_hub.state_dict())}
        if save_optimizer:
            content['optimizer'] = to_cpu(gather_on_first(self.optim_wrapper.state_dict()))
        if save_param_scheduler and self.param_schedulers is not None:
            schedulers = self.param_schedulers
            content['param_schedulers'] = (
                {name: [scheduler.state_dict() for scheduler in group] for name, group in schedulers.items()}
                if isinstance(schedulers, dict) else [scheduler.state_dict() for scheduler in schedulers])
        if is_main_process():
            self.call_hook('before_save_checkpoint', checkpoint=content)
            write_checkpoint(content, Path(out_dir, filename))

    def note_checkpoint(self, path: str | Path) -> None:
        """Notes the checkpoint that --resume takes."""
        if is_main_process():
            write_note(Path(path), self.work_dir)

    def return_to(self, filename: str | Path) -> None:
        """Loads the weights and the optimizer's moments of a checkpoint; data, learning rate and log continue."""
        resumes, self._resume = self._resume, True  # EMAHook then loads the trained weights, not their average
        try:
            checkpoint = self.load_checkpoint(str(filename))
        finally:
            self._resume = resumes
        if 'optimizer' in checkpoint:
            self.optim_wrapper.return_to(checkpoint['optimizer'])

    def resume(self, filename: str, resume_optimizer: bool = True, resume_param_scheduler: bool = True,
               map_location: str | Callable = 'default') -> None:
        """Continues the run of a checkpoint.

        Raises:
            CheckpointError: the checkpoint does not fit the model, has no position, or its optimizer does not belong to
                the parameters.
        """
        checkpoint = self.load_checkpoint(filename)
        meta = checkpoint.get('meta', {})
        if not {'epoch', 'iter'} <= meta.keys() or not checkpoint.get('message_hub'):
            raise CheckpointError(f'{filename} cannot be resumed: it has no epoch, iteration or log history. To start '
                                  'a new run from its weights, pass load_from=CHECKPOINT without --resume')
        if meta['iter'] > self.train_loop.max_iters:
            raise CheckpointError(f'{filename} cannot be resumed: it was saved after {meta["iter"]:,} iterations, and '
                                  f'the training of this config has {self.train_loop.max_iters:,}. Pass a longer '
                                  '--iters or --epochs')
        self.train_loop._epoch, self.train_loop._iter = meta['epoch'], meta['iter']
        self._resume_seed(meta.get('seed'))
        dataset_meta = getattr(self.train_dataloader.dataset, 'metainfo', None)
        if repr(meta.get('dataset_meta')) != repr(dataset_meta):
            self.logger.warning('the description of the dataset (classes, palette) in the checkpoint differs from '
                                'the training dataset: check that both belong together')
        self._check_num_images(meta)
        self.message_hub.load_state_dict(checkpoint['message_hub'])
        if isinstance(self.train_loop, EpochBasedTrainLoop) and not isinstance(self.train_loop, PretrainLoop):
            check_epoch_length(meta, len(self.train_loop.dataloader), filename)
        if 'optimizer' not in checkpoint:
            raise CheckpointError(f'{filename} cannot be resumed: it has no state of the optimizer (save_optimizer). '
                                  'To start a new run from its weights, pass load_from=CHECKPOINT without --resume')
        if resume_optimizer:
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
            if self.param_schedulers is not None:
                self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
            self._resume_optimizer(checkpoint, filename, with_schedules=resume_param_scheduler)
        self._has_loaded = True
        rates = [rate for group in self.optim_wrapper.get_lr().values() for rate in group]
        self.logger.info(f'resumed epoch: {self.epoch}, iter: {self.iter}, next learning rate: {max(rates):.4g}')

    def _check_num_images(self, meta: dict) -> None:
        """Warns if the training set has another number of images than at the start of the run."""
        stored = (meta.get('mae_backbone') or {}).get('num_images')
        current = num_images_of(self.train_dataloader.dataset)
        if stored is not None and stored != current:
            self.logger.warning(f'the run was started with {stored:,} training images, and the data have {current:,} '
                                'now: check --data-root and --labels. The run continues with the current images')

    def _resume_seed(self, seed: int | None) -> None:
        """Takes the seed that the run was started with: the order of the data and the masks depend on it."""
        current = self._randomness_cfg.get('seed')
        if seed is None or seed == current:
            return
        if current is not None:
            self.logger.warning(f'the run was started with seed {seed}, which is used instead of {current}')
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)

    def _resume_optimizer(self, checkpoint: dict, filename: str, *, with_schedules: bool) -> None:
        schedulers = self.param_schedulers
        if isinstance(self.optim_wrapper, OptimWrapperDict) or isinstance(schedulers, dict):
            raise CheckpointError(f'{filename} cannot be resumed: there are several optimizers. Start a new run from '
                                  'its weights, with load_from=CHECKPOINT and without --resume')
        schedulers = schedulers if schedulers and with_schedules else []
        if resume_optimizer(self.optim_wrapper, schedulers, checkpoint, filename):
            self.logger.warning('the schedule or the learning rate of the config differs from the checkpoint: the '
                                f'run continues at iteration {self.iter} of the schedule of the config')

    def _bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _meta(self) -> dict:
        """The `meta` of a checkpoint, without its position."""
        meta = dict(cfg=self.cfg.pretty_text, seed=self.seed, experiment_name=self.experiment_name,
                    time=time.strftime('%Y%m%d_%H%M%S', time.localtime()), mmengine_version=mmengine.__version__)
        dataset = self.train_dataloader.dataset
        meta['mae_backbone'] = description(self._bare_model(), dataset, self.message_hub.log_scalars,
                                           self.message_hub.runtime_info.get('last_validation'))
        metainfo = getattr(dataset, 'metainfo', None)
        return meta if metainfo is None else meta | dict(dataset_meta=metainfo)


def to_cpu(tree: object) -> object:
    """Nested dicts and lists with every tensor on the CPU."""
    return apply_to(tree, lambda x: hasattr(x, 'cpu'), lambda x: x.cpu())


def is_encoder_only(model: nn.Module) -> bool:
    """True if all weights of the model belong to its backbone."""
    return all(name.startswith('backbone.') for name in model.state_dict())
