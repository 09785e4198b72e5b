"""MMEngine's Runner with checkpoints that are safe to read, fit exactly, and are never half-written."""
import importlib
import io
import logging
import sys
import time
from collections.abc import Callable, Generator
from contextlib import redirect_stdout
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import mmengine.runner
import torch
import yapf.yapflib.yapf_api
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, LogProcessor
from mmengine.utils import apply_to
from torch import nn
from torch.utils.data import DataLoader

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import (
    load_model,
    read_run,
    remove_partial_files,
    write_checkpoint,
    write_note,
)
from mae_backbone.checkpoints.sharding import gather_on_first
from mae_backbone.compat.quiet_logs import keep_record
from mae_backbone.core.compiling import compile_model
from mae_backbone.core.vit import Block, ViT
from mae_backbone.data.load_image import with_own_loading
from mae_backbone.data.num_workers import resolve_num_workers
from mae_backbone.engine.distributed import init_on_cpus
from mae_backbone.engine.fsdp import FullyShard
from mae_backbone.engine.loops import PretrainLoop
from mae_backbone.engine.provenance import description
from mae_backbone.engine.resuming import check_epoch_length, resume_optimizer
from mae_backbone.engine.sync_batchnorm import sync_batchnorm_on_cpus
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.models.timm_vit import TimmViT, pixel_warning
from mae_backbone.utils.printable import escape_record

# `Config.pretty_text` formats the config with yapf, which takes a second or more for a detector. MMEngine asks for it
# four times when a run starts and once for every checkpoint, of the same config. It keeps no result, and gives no place
# to keep one: it imports `FormatCode` from yapf inside of the property. So the result is kept in yapf.
_format_code = yapf.yapflib.yapf_api.FormatCode


@lru_cache(maxsize=4)
def _format_once(text: str, style: tuple) -> tuple[str, bool]:
    return _format_code(text, style_config=dict(style))


yapf.yapflib.yapf_api.FormatCode = lambda text, style_config, **_: _format_once(
    text, tuple(sorted(style_config.items())))


class Runner(mmengine.runner.Runner):
    """Trains and tests as MMEngine's Runner; reads and writes checkpoints by `mae_backbone.checkpoints`.

    It also runs on several CPUs, where MMEngine needs GPUs.
    """

    optim_wrapper: OptimWrapper | OptimWrapperDict
    param_schedulers: list | dict | None

    @classmethod
    def quietly_from_cfg(cls, cfg: mmengine.Config) -> 'Runner':
        """Builds a Runner. MMEngine's messages about the environment and the config go to the log file only.

        Messages of this package go to the Runner's handlers from then on.
        """
        printed = io.StringIO()
        with redirect_stdout(printed):
            runner = cls.from_cfg(cfg)
        for handler in runner.logger.handlers:
            handler.addFilter(escape_record)
            if isinstance(handler, logging.StreamHandler) and handler.stream is printed:
                handler.setStream(sys.stdout)
        runner.logger.addFilter(keep_record)
        ours = logging.getLogger('mae_backbone')
        ours.handlers, ours.propagate = runner.logger.handlers, False
        ours.setLevel(logging.INFO)
        warning = pixel_warning(runner._bare_model())
        if warning:
            ours.warning(warning)
        return runner

    def build_evaluator(self, evaluator: dict | list | Evaluator) -> Evaluator:
        """Builds an evaluator as MMEngine does, with our `CocoMetric` and `IoUMetric`."""
        if isinstance(evaluator, (dict, list)):
            metrics = evaluator if isinstance(evaluator, list) else [evaluator]
            evaluator = [_with_our_metric(metric) for metric in metrics]
        return super().build_evaluator(evaluator)

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
        checkpoint = self.load_checkpoint(str(filename))
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

    def train(self) -> nn.Module:
        """Trains, after removing incomplete files of a killed run."""
        if is_main_process():
            for path in remove_partial_files(self.work_dir):
                self.logger.info(f'{path} removed: a killed run was writing it')
        if isinstance(self._train_dataloader, dict) and self._train_dataloader.get('num_workers') == 'auto':
            self.logger.info(self.tune_loader())
        try:
            return super().train()
        finally:
            self._stop_workers()

    def _maybe_compile(self, target: str) -> None:
        """Compiles the blocks of the model part by part, where MMEngine would compile the whole step.

        `compile` of the config is 'auto' (the default), True, False, or a dict of options of torch.compile. A model
        without blocks of this package is compiled as MMEngine does, if the config asks for it.
        """
        model, when = self._bare_model(), self.cfg.get('compile', 'auto')
        options = dict(when) if isinstance(when, dict) else {}
        if isinstance(model, MAEPretrainer):  # decides before its first step
            if 'compile' in self.cfg:
                model.compile_when, model.compile_options = True if options else when, options
        elif when not in ('auto', False) and not any(isinstance(module, Block) for module in model.modules()):
            super()._maybe_compile(target)
        else:
            device = next(model.parameters()).device
            self.logger.info(compile_model(model, True if options else when, device, **options))

    def _stop_workers(self) -> None:
        """Ends the workers of the training data.

        Python ends processes that are left at its exit by one SIGTERM, which these workers ignore for a minute
        (`start_worker`), and waits for them.
        """
        loop = self._train_loop
        if isinstance(getattr(loop, 'dataloader_iterator', None), Generator):
            loop.dataloader_iterator.close()
        iterator = getattr(getattr(loop, 'dataloader', None), '_iterator', None)  # of persistent workers
        if iterator is not None and hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()

    def tune_loader(self) -> str:
        """Replaces `num_workers='auto'` of the train_dataloader by a number; returns a line for the plan."""
        return resolve_num_workers(self._train_dataloader, device=next(self.model.parameters()).device)

    @staticmethod
    def build_dataloader(dataloader: DataLoader | dict, seed: int | None = None,
                         diff_rank_seed: bool = False) -> DataLoader:
        """Builds a loader; with fewer images than a batch and `drop_last`, the batch is made smaller.

        MMEngine would have no batch, and fail. Without workers, `persistent_workers` is ignored. `LoadImage` replaces
        mmcv's transform of the pipelines, which decodes images of any size.
        """
        if isinstance(dataloader, dict) and dataloader.get('persistent_workers') and not dataloader.get('num_workers'):
            logging.getLogger('mae_backbone').info('persistent_workers is off: num_workers is 0')
            dataloader = dict(dataloader, persistent_workers=False)
        if isinstance(dataloader, dict) and isinstance(dataloader.get('dataset'), dict):
            dataloader = dict(dataloader, dataset=with_own_loading(dataloader['dataset']))
        if isinstance(dataloader, dict) and torch.cuda.is_available():  # only pinned memory is copied without waiting
            dataloader = {'pin_memory': True, **dataloader}
        loader = mmengine.runner.Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if isinstance(dataloader, DataLoader) or not loader.drop_last or not loader.batch_size or len(loader):
            return loader
        images = len(loader.sampler)  # of this process
        batch_size = images - images % 2 if images > 1 else images  # timm's Mixup needs pairs
        logging.getLogger('mae_backbone').warning(
            'batch size %d is larger than the training set of %d images per process: %d is used instead. The learning '
            'rate is not changed; set the batch size to scale it', loader.batch_size, images, batch_size)
        smaller = dict(dataloader, dataset=loader.dataset, batch_size=batch_size)
        return mmengine.runner.Runner.build_dataloader(smaller, seed, diff_rank_seed)

    def setup_env(self, env_cfg: dict) -> None:
        """Sets up the environment; joins a distributed run on CPUs, which MMEngine does only on GPUs.

        `tf32=True` of the config lets matrix products in float32 use TF32 on CUDA.
        """
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            init_on_cpus(self.launcher, **env_cfg.get('dist_cfg', {}))
        super().setup_env(env_cfg)
        if self.cfg.get('tf32') and torch.cuda.is_available():
            torch.set_float32_matmul_precision('high')

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wraps the model; on CPUs without the device_ids of MMEngine, which DistributedDataParallel refuses there.

        Nor does torch synchronize batch normalization there.
        """
        on_cpus = self.distributed and not is_model_wrapper(model) and get_device() == 'cpu'
        if on_cpus:
            if self.cfg.get('sync_bn'):
                model = convert_sync_batchnorm(model, self.cfg.sync_bn)
            sync_batchnorm_on_cpus(model)
        if on_cpus and (model_wrapper_cfg is None or 'type' not in model_wrapper_cfg):
            options = dict(broadcast_buffers=False,
                           find_unused_parameters=self.cfg.get('find_unused_parameters', False))
            return MMDistributedDataParallel(module=model, **options | dict(model_wrapper_cfg or {}))
        if not self.distributed and model_wrapper_cfg is not None:
            self.logger.info('one process: the model is not wrapped')
        return super().wrap_model(model_wrapper_cfg, model)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds a validation loop, under autocast if the config has a `val_dtype`."""
        self._predict_in(self.cfg.get('val_dtype'), 'val_step')
        return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds a test loop, under autocast if the config has a `val_dtype`."""
        self._predict_in(self.cfg.get('val_dtype'), 'test_step')
        return super().build_test_loop(loop)

    def _predict_in(self, dtype: str | None, step: str) -> None:
        """Puts a method of the model under autocast, inside of the context of MMEngine's loops, which switch it off."""
        if dtype in (None, 'float32'):
            return
        if dtype not in ('bfloat16', 'float16'):
            raise ValueError(f"val_dtype={dtype!r}, expected 'float32', 'bfloat16' or 'float16'")
        predict, kind = getattr(self.model, step), next(self.model.parameters()).device.type

        def predict_under_autocast(data: Any) -> Any:
            with torch.autocast(kind, getattr(torch, dtype)):
                return predict(data)
        setattr(self.model, step, predict_under_autocast)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds a training loop. MMEngine's loops are replaced by ours, which resume bit for bit."""
        if isinstance(loop, dict):
            loop = dict(loop)
            if 'by_epoch' in loop:
                loop['type'] = 'EpochBasedTrainLoop' if loop.pop('by_epoch') else 'IterBasedTrainLoop'
            loop['type'] = _LOOPS.get(str(loop.get('type')).removeprefix('mmengine.'), loop.get('type'))
        return super().build_train_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper | OptimWrapperDict:
        """Builds an optimizer wrapper. MMEngine's wrappers are replaced by ours, which skips non-finite steps."""
        return super().build_optim_wrapper(guarded(optim_wrapper))

    def build_log_processor(self, log_processor: LogProcessor | dict) -> LogProcessor:
        """Builds a log processor; MMEngine's is replaced by ours, which names skipped steps only if there are any."""
        if isinstance(log_processor, dict) and log_processor.get('type', 'LogProcessor') == 'LogProcessor':
            log_processor = {**log_processor, 'type': 'mae_backbone.TrainLogProcessor'}
        return super().build_log_processor(log_processor)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Registers MMEngine's default hooks, with our hooks for checkpoints and log lines instead of MMEngine's.

        Every training also saves on signals. If its optimizer wrapper skips non-finite steps, it rolls back after
        several of them, and losses stay on the device until a log line is due. A pretraining freezes its encoder first
        if `model.freeze_encoder_iters` says so. A config switches a hook off by `default_hooks.NAME=None`.
        """
        hooks = dict(hooks or {})
        hooks.setdefault('preemption', dict(type='mae_backbone.PreemptionHook'))
        wrapper = guarded(self.optim_wrapper)
        if isinstance(wrapper, dict) and wrapper.get('type') == _GUARDED:
            hooks.setdefault('device_log', dict(type='mae_backbone.DeviceLogHook'))
            hooks.setdefault('guard', dict(type='mae_backbone.GuardHook'))
            info = hooks.get('runtime_info', dict(type='RuntimeInfoHook'))
            if hooks['device_log'] and isinstance(info, dict) and info.get('type') == 'RuntimeInfoHook':
                hooks['runtime_info'] = dict(type='mae_backbone.DeviceInfoHook')
        frozen = getattr(self._bare_model(), 'freeze_encoder_iters', 0)
        if frozen:
            hooks.setdefault('freeze_encoder', dict(type='mae_backbone.FreezeEncoderHook', iters=frozen))
        for name, default, ours in (('checkpoint', dict(type='CheckpointHook', interval=1), 'WholeCheckpointHook'),
                                    ('logger', dict(type='LoggerHook'), 'RunLoggerHook')):
            hook = hooks.get(name, default)
            if isinstance(hook, dict) and hook.get('type') == default['type']:
                hooks[name] = {**hook, 'type': f'mae_backbone.{ours}'}
        # MMEngine takes None only for its own hooks.
        super().register_default_hooks({name: hook for name, hook in hooks.items()
                                        if hook is not None or name in _MMENGINE_HOOKS})

    def _init_model_weights(self) -> None:
        if not isinstance(self.model, FullyShard):  # it initializes them before it shards them
            super()._init_model_weights()

    def _bare_model(self) -> nn.Module:
        return self.model.module if is_model_wrapper(self.model) else self.model

    def _meta(self) -> dict:
        """The `meta` of a checkpoint, without its position."""
        meta = dict(cfg=self.cfg.pretty_text, seed=self.seed, experiment_name=self.experiment_name,
                    time=time.strftime('%Y%m%d_%H%M%S', time.localtime()), mmengine_version=mmengine.__version__)
        dataset = self.train_dataloader.dataset
        meta['mae_backbone'] = description(self._bare_model(), dataset, self.message_hub.log_scalars,
                                           self.message_hub.runtime_info.get('validated'))
        metainfo = getattr(dataset, 'metainfo', None)
        return meta if metainfo is None else meta | dict(dataset_meta=metainfo)


_GUARDED = 'mae_backbone.GuardedOptimWrapper'
_MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
_LOOPS = {'IterBasedTrainLoop': 'mae_backbone.ResumableIterLoop',
          'EpochBasedTrainLoop': 'mae_backbone.ResumableEpochLoop'}
# Options of MMEngine's OptimWrapper and AmpOptimWrapper that the guarded wrapper has, too.
_WRAPPER_OPTIONS = frozenset({'type', 'optimizer', 'constructor', 'paramwise_cfg', 'clip_grad', 'accumulative_counts'})
_AMP_OPTIONS = _WRAPPER_OPTIONS | {'dtype', 'loss_scale'}


def guarded(optim_wrapper: Any) -> Any:
    """The config of an OptimWrapper or AmpOptimWrapper -> the config of a GuardedOptimWrapper; others are returned."""
    if not isinstance(optim_wrapper, dict):
        return optim_wrapper
    kind, keys = optim_wrapper.get('type', 'OptimWrapper'), set(optim_wrapper)
    plain = kind == 'OptimWrapper' and keys <= _WRAPPER_OPTIONS and 'optimizer' in keys
    amp = kind == 'AmpOptimWrapper' and keys <= _AMP_OPTIONS and optim_wrapper.get('dtype') in ('bfloat16', 'float16')
    if plain or amp:
        optim_wrapper = copy(optim_wrapper)
        optim_wrapper['type'] = _GUARDED
        optim_wrapper.pop('loss_scale', None)
    return optim_wrapper


def to_cpu(tree: object) -> object:
    """Nested dicts and lists with every tensor on the CPU."""
    return apply_to(tree, lambda x: hasattr(x, 'cpu'), lambda x: x.cpu())


def _with_our_metric(metric: dict) -> dict:
    """Replaces mmdet's CocoMetric and mmseg's IoUMetric in a config by ours, which keep the results of each class."""
    kind = str(metric.get('type'))
    for scope, name, room in (('mmdet', 'CocoMetric', 'detection'), ('mmseg', 'IoUMetric', 'segmentation')):
        if kind in (name, f'{scope}.{name}'):
            importlib.import_module(f'mae_backbone.{room}')  # registers it; a config that names it imports mmdet too
            return {**metric, 'type': f'mae_backbone.{name}'}
    return metric


def is_encoder_only(model: nn.Module) -> bool:
    """Whether all weights of the model belong to its backbone."""
    return all(name.startswith('backbone.') for name in model.state_dict())
