"""Trial steps of a config: how many images fit into the memory, and how long an iteration takes."""
import io
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import psutil
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mae_backbone.planning.plan import StepCost
from mae_backbone.utils.cpu import available_cpus

MEMORY_FRACTION = 0.85  # part of the free memory that a step may take; ultralytics: 0.6, nnDetection: all but 1.7 GB
_WARMUP, _STEPS = 2, 5
_NUM_CANDIDATES = 4     # batches to draw; the one with most objects is used, because it needs the most memory


def measure_step(config: Path, *, memory: int, most: int) -> StepCost:
    """Measures an iteration of a training with real images and random weights.

    On a GPU the batch is doubled from 1 on until a step does not fit. On a CPU the batch of the config is halved until
    a step fits. Mixed precision is used as with --amp.

    Args:
        config: file of the config.
        memory: free bytes of the device.
        most: largest batch to try, which is the number of images of a step of the optimizer.

    Raises:
        MemoryError: not even one image fits.
    """
    limit = MEMORY_FRACTION * memory
    with _quietly(), tempfile.TemporaryDirectory() as folder:
        trial = _Trial(config, folder)
        if trial.device == 'cuda':
            return _largest(trial, limit, most)
        batch = min(trial.cfg.train_dataloader.batch_size, most)
        while True:
            cost = trial.run(batch)
            if cost.memory <= limit or batch == 1:
                break
            batch = max(1, batch // 2)
    if cost.memory > limit:
        raise MemoryError(_too_large(cost.memory, memory))
    return cost


def _largest(trial: '_Trial', limit: float, most: int) -> StepCost:
    """Cost of the largest batch on a GPU that fits."""
    best: StepCost | None = None
    batch = 1
    while batch <= most:
        try:
            cost = trial.run(batch)
        except torch.OutOfMemoryError:
            break
        finally:
            torch.cuda.empty_cache()
        if cost.memory > limit:
            break
        best, batch = cost, batch * 2
    if best is None:
        raise MemoryError(_too_large(0, int(limit / MEMORY_FRACTION)))
    return best


def _too_large(needed: int, memory: int) -> str:
    amount = f'{needed / 2**30:.1f} GB' if needed else 'more memory'
    return (f'a step with one image needs {amount}, and {memory / 2**30:.1f} GB are free: close other programs, or '
            'plan with smaller weights')


class _Trial:
    """Model, optimizer and data of a config.

    Args:
        config: file of the config.
        folder: folder for its logs.
    """

    def __init__(self, config: Path, folder: str) -> None:
        from mae_backbone.cli.config import adapt_classes
        from mae_backbone.cli.training import enable_amp
        from mae_backbone.utils.config_files import drop_scope
        cfg = Config.fromfile(config)
        drop_scope(cfg._cfg_dict)
        cfg.launcher, cfg.work_dir = 'none', folder
        adapt_classes(cfg)  # also makes a validation split if there is none
        for part in (cfg.model, cfg.model.get('backbone') or {}):
            part.pop('init_cfg', None)
        if cfg.model.get('freeze_encoder_iters'):
            cfg.model.freeze_encoder_iters = 0
        for split in ('val', 'test'):
            for key in ('dataloader', 'evaluator', 'cfg'):
                cfg[f'{split}_{key}'] = None
        cfg.custom_hooks, cfg.default_hooks = [], {}
        cfg.visualizer = None
        cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        enable_amp(cfg)
        self.cfg = cfg

    def run(self, batch: int) -> StepCost:
        """Runs a few steps and uses the fastest, because other programs may have slowed down the others."""
        from mae_backbone.engine.runner import Runner
        cfg = self.cfg
        cfg.train_dataloader.batch_size = batch
        cfg.optim_wrapper.pop('accumulative_counts', None)
        process = psutil.Process()
        before = process.memory_info().rss
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            runner = Runner.quietly_from_cfg(cfg)
            wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
            loader = runner.build_dataloader(cfg.train_dataloader, seed=0)
            if cfg.train_dataloader.dataset.get('cache'):
                _batches(loader)  # decoded images are kept: only their crops are measured
            start, start_cpu = time.perf_counter(), time.process_time()
            batches = _batches(loader)
            loading = min(time.perf_counter() - start, time.process_time() - start_cpu) / len(batches)
            data = max(batches, key=_num_objects)
            seconds = [self._step(runner.model.train(), wrapper, data) for _ in range(_WARMUP + _STEPS)][_WARMUP:]
        if self.device == 'cuda':
            return StepCost(batch, max(min(seconds), loading / available_cpus()),
                            torch.cuda.max_memory_allocated())
        grown = max(0, process.memory_info().rss - before)
        # The workers load during the steps, but on the same processors.
        return StepCost(batch, min(seconds) + loading, max(grown, _estimated_memory(runner, batch)))

    def _step(self, model: Any, wrapper: Any, data: Any) -> float:
        """Seconds of one step; on a CPU at most the processor time of all threads, which others do not change."""
        if self.device == 'cuda':
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start, start_cpu = time.perf_counter(), time.process_time()
        model.train_step(data, wrapper)
        if self.device == 'cuda':
            torch.cuda.synchronize()
            return time.perf_counter() - start
        return min(time.perf_counter() - start, time.process_time() - start_cpu)


def _batches(loader: Any) -> list[Any]:
    iterator = iter(loader)
    batches = []
    for _ in range(_NUM_CANDIDATES):
        try:
            batches.append(next(iterator))
        except StopIteration:
            break
    return batches


def _num_objects(data: Any) -> int:
    """Objects in a batch of mmdet; 0 for other batches."""
    samples = data.get('data_samples') if isinstance(data, dict) else None
    if not isinstance(samples, list):
        return 0
    return sum(len(getattr(sample, 'gt_instances', ())) for sample in samples)


def _estimated_memory(runner: Any, batch: int) -> int:
    """Bytes of weights, optimizer and activations, computed without allocating them; 0 if they are not known."""
    from mae_backbone.engine.memory_estimate import training_memory
    try:
        memory = training_memory(runner.model, runner.cfg.optim_wrapper, batch)
    except Exception:  # an estimate must not stop the plan
        return 0
    return memory.step.total if memory else 0


@contextmanager
def _quietly() -> Iterator[None]:
    """Mutes logs, and restores the process, see `unchanged_process`."""
    from mae_backbone.cli.python_api import unchanged_process
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with unchanged_process(), redirect_stdout(io.StringIO()):  # pycocotools prints
            yield
    finally:
        logging.disable(before)
