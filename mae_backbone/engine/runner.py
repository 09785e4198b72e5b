"""MMEngine's Runner with our checkpoints, loops, hooks and loaders, and distributed runs on CPUs."""
import io
import logging
import sys
from collections.abc import Generator
from contextlib import redirect_stdout
from typing import Any

import mmengine.runner
import torch
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import BaseLoop, LogProcessor
from torch import nn
from torch.utils.data import DataLoader

from mae_backbone.checkpoints.run_files import remove_partial_files
from mae_backbone.compat import config_format, manager_lock
from mae_backbone.compat.quiet_logs import keep_record
from mae_backbone.core.compiling import compile_model
from mae_backbone.core.vit import Block
from mae_backbone.data.load_image import with_own_loading
from mae_backbone.data.num_workers import resolve_num_workers
from mae_backbone.engine.checkpointing import CheckpointRunner
from mae_backbone.engine.distributed import init_on_cpus, without_buffer_sync
from mae_backbone.engine.fsdp import FullyShard
from mae_backbone.engine.replacements import guarded, our_evaluator, our_hooks, our_log_processor, our_loop
from mae_backbone.engine.signals import protect_workers
from mae_backbone.engine.sync_batchnorm import sync_batchnorm_on_cpus
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.models.timm_vit import pixel_warning
from mae_backbone.utils.printable import escape_record

config_format.install()
manager_lock.install()


class Runner(CheckpointRunner):
    """Trains and tests as MMEngine's Runner; reads and writes checkpoints by `mae_backbone.checkpoints`.

    It also runs in several processes on CPUs, where MMEngine needs GPUs.
    """

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
            if isinstance(handler, logging.FileHandler) and isinstance(handler.stream, io.TextIOWrapper):
                handler.stream.reconfigure(encoding='utf-8')  # for class names that the locale lacks
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
        return super().build_evaluator(our_evaluator(evaluator))

    def train(self) -> nn.Module:
        """Trains, after removing incomplete files of a killed run."""
        if is_main_process():
            for path in remove_partial_files(self.work_dir):
                self.logger.info(f'{path} removed: a killed run was writing it')
        if isinstance(self._train_dataloader, dict) and self._train_dataloader.get('num_workers') == 'auto':
            self.logger.info(self.tune_loader())
        try:
            return super().train()
        except (Exception, KeyboardInterrupt):
            self.call_hook('after_failed_train')
            raise
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
        """Ends the workers of a training and of its validations.

        Python ends processes that are left at its exit by one SIGTERM, which these workers ignore for a minute
        (`start_worker`), and waits for them.
        """
        loop = self._train_loop
        if isinstance(getattr(loop, 'dataloader_iterator', None), Generator):
            loop.dataloader_iterator.close()
        for part in (loop, self._val_loop):
            iterator = getattr(getattr(part, 'dataloader', None), '_iterator', None)  # of persistent workers
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
        """Wraps the model, in DistributedDataParallel unless the config names another wrapper.

        On CPUs it has no device_ids, which MMEngine passes and DistributedDataParallel refuses there, and batch
        normalization is synchronized by this package.
        """
        if not self.distributed or is_model_wrapper(model):
            if not self.distributed and model_wrapper_cfg is not None:
                self.logger.info('one process: the model is not wrapped')
            return super().wrap_model(model_wrapper_cfg, model)
        on_cpus = get_device() == 'cpu'
        if on_cpus:
            if self.cfg.get('sync_bn'):
                model = convert_sync_batchnorm(model, self.cfg.sync_bn)
            sync_batchnorm_on_cpus(model)
        if model_wrapper_cfg is None or 'type' not in model_wrapper_cfg:
            model_wrapper_cfg = dict(model_wrapper_cfg or {})
            model_wrapper_cfg.setdefault('find_unused_parameters', self.cfg.get('find_unused_parameters', False))
            if not {'broadcast_buffers', 'forward_sync_buffers'} & model_wrapper_cfg.keys():
                model_wrapper_cfg |= without_buffer_sync()
            if on_cpus:
                return MMDistributedDataParallel(module=model, **model_wrapper_cfg)
        return super().wrap_model(model_wrapper_cfg, model)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Builds a validation loop, under autocast if the config has a `val_dtype`."""
        self._predict_in(self.cfg.get('val_dtype'), 'val_step')
        built = super().build_val_loop(loop)
        if isinstance(self._train_loop, BaseLoop):  # a training that is asked to stop finishes its validation
            protect_workers(built.dataloader)
        return built

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
        return super().build_train_loop(our_loop(loop))

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper | OptimWrapperDict:
        """Builds an optimizer wrapper. MMEngine's wrappers are replaced by ours, which skips non-finite steps."""
        return super().build_optim_wrapper(guarded(optim_wrapper))

    def build_log_processor(self, log_processor: LogProcessor | dict) -> LogProcessor:
        """Builds a log processor; MMEngine's is replaced by ours, which names skipped steps only if there are any."""
        return super().build_log_processor(our_log_processor(log_processor))

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Registers MMEngine's default hooks, with our hooks for checkpoints and log lines instead of MMEngine's.

        Every training also saves on signals. If its optimizer wrapper skips non-finite steps, it rolls back after
        several of them, and losses stay on the device until a log line is due. A pretraining freezes its encoder first
        if `model.freeze_encoder_iters` says so. A config switches a hook off by `default_hooks.NAME=None`.
        """
        frozen = getattr(self._bare_model(), 'freeze_encoder_iters', 0)
        super().register_default_hooks(our_hooks(hooks, self.optim_wrapper, freeze_encoder_iters=frozen))

    def _init_model_weights(self) -> None:
        if not isinstance(self.model, FullyShard):  # it initializes them before it shards them
            super()._init_model_weights()
