"""Commands as functions: `mae_backbone.plan`, `auto`, `pretrain`, `train`, `evaluate` and `run_command`.

They call what the command line calls. Mistakes raise the errors that the command line prints, and the state of the
process is afterwards what it was before.
"""
import argparse
import difflib
import logging
import os
import random
import signal
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import torch
from mmengine.utils import ManagerMixin

from mae_backbone.cli.main import COMMANDS, with_config
from mae_backbone.cli.training import last_checkpoint
from mae_backbone.engine.signals import STOP_SIGNALS
from mae_backbone.planning.plan import WrittenPlan
from mae_backbone.utils.config_files import find_config

# Small recipes, which train on one CPU core in minutes.
DEFAULT_CONFIGS = {'pretraining': 'mae_vit-micro_nuclei', 'detection': 'mask-rcnn_vit-micro_nuclei',
                   'segmentation': 'upernet_vit-micro_camvid', 'classification': 'vit-micro_finetune_cifar10'}


@dataclass(frozen=True)
class TrainingRun:
    """A finished training.

    Attributes:
        work_dir: folder with logs, checkpoints and figures.
        checkpoint: the best checkpoint if the config chooses one, otherwise the last one.
        results: metrics of the last validation, and the training loss at the end.
    """

    work_dir: Path
    checkpoint: Path
    results: dict[str, float]

    def load(self, **options: Any) -> Any:
        """Loads the checkpoint; options as in `mae_backbone.load`."""
        from mae_backbone.prediction.loading import load
        return load(self.checkpoint, **options)


def plan(data: str | Path, *, task: str | None = None, unlabeled: str | Path | None = None,
         pretrained: str | Path | None = None, hours: float | None = None, out: str | Path | None = None,
         overwrite: bool = False, estimate: bool = False, group_pattern: str | None = None,
         workers: int | None = None) -> WrittenPlan:
    """Measures data and machine, and writes a config with the reason for each setting, like `mae-backbone plan`.

    Args:
        data: folder of the data.
        task: 'detection', 'segmentation', 'classification' or 'pretraining'; by default the task of the labels.
        unlabeled: folder of further images, for the pretraining.
        pretrained: weights to start from.
        hours: time for all trainings together.
        out: config file to write.
        overwrite: replace files of an earlier plan.
        estimate: estimate the time of an iteration without running any.
        group_pattern: images whose names have the same match stay together if a validation split has to be made.
        workers: files to read at the same time.

    Raises:
        ValueError: the data cannot be used, or files of an earlier plan exist.
    """
    written: WrittenPlan = run_command('plan', data, task=task, unlabeled=unlabeled, pretrained=pretrained, hours=hours,
                                       out=out, overwrite=overwrite, estimate=estimate, group_pattern=group_pattern,
                                       workers=workers)
    return written


def auto(data: str | Path, *, task: str | None = None, unlabeled: str | Path | None = None,
         pretrained: str | Path | None = None, hours: float | None = None, work_dir: str | Path | None = None,
         group_pattern: str | None = None) -> TrainingRun:
    """Plans, pretrains, trains, tests and reports, as `mae-backbone auto` does. The same call continues a run.

    Args:
        data, task, unlabeled, pretrained, hours, group_pattern: as in `plan`.
        work_dir: folder of all results; by default work_dirs/auto_NAME, by the name of the folder of the data. The
            report is its `index.html`.

    Returns:
        The last training. `results` are the metrics of the test. They are empty if there is only a pretraining.

    Raises:
        ValueError: the data cannot be used, or the folder holds a run with other options.
    """
    run: TrainingRun = run_command('auto', data, task=task, unlabeled=unlabeled, pretrained=pretrained, hours=hours,
                                   work_dir=work_dir, group_pattern=group_pattern)
    return run


def pretrain(images: str | Path, *, config: str | Path | None = None, work_dir: str | Path | None = None,
             pretrained: str | Path | None = None, resume: str | Path | bool = False, epochs: int | None = None,
             iters: int | None = None, batch_size: int | None = None, lr: float | None = None,
             seed: int | None = None, amp: bool = False, cfg_options: Mapping[str, Any] | None = None,
             **options: Any) -> TrainingRun:
    """Pretrains a masked autoencoder on unlabeled images, as `mae-backbone pretrain` does.

    Args:
        images: folder of images, or another source that the config supports.
        config: name or path of a config; by default the small recipe `mae_vit-micro_nuclei`. It is Python code.
        work_dir: folder for logs, checkpoints and figures; by default work_dirs/CONFIG.
        pretrained: weights to start from, in any layout that `load_encoder` reads.
        resume: True to continue from the latest checkpoint in the work directory; or the path of a checkpoint.
        epochs, iters: length of the training, in the unit of the config.
        batch_size: images per step; the learning rate follows if the config has auto_scale_lr.
        lr: peak learning rate, not scaled with the batch.
        seed: random seed.
        amp: mixed precision.
        cfg_options: settings of the config to override, such as {'train_dataloader.num_workers': 4}.
        options: further options of the command by their names, with underscores.

    Raises:
        ValueError: an option is unknown or out of its range, or data cannot be used.
    """
    return _train('pretrain', images, 'pretraining', config, work_dir, resume, dict(
        pretrained=pretrained, epochs=epochs, iters=iters, batch_size=batch_size, lr=lr, seed=seed, amp=amp,
        cfg_options=cfg_options, **options))


def train(data: str | Path, *, task: str | None = None, config: str | Path | None = None,
          pretrained: str | Path | None = None, labels: float | None = None, work_dir: str | Path | None = None,
          resume: str | Path | bool = False, epochs: int | None = None, iters: int | None = None,
          batch_size: int | None = None, lr: float | None = None, seed: int | None = None, amp: bool = False,
          cfg_options: Mapping[str, Any] | None = None, **options: Any) -> TrainingRun:
    """Trains a detector, a segmenter or a classifier, as `mae-backbone train` does.

    Args:
        data: folder of the data, in the layout that the head of the config states.
        task: 'detection', 'segmentation' or 'classification': takes a small recipe of this task, see
            `DEFAULT_CONFIGS`.
        config: name or path of a config, in place of `task`. It is Python code.
        pretrained: weights to start the encoder from, or a `TrainingRun.checkpoint`.
        labels: fraction of the labeled images to train on.
        work_dir, resume, epochs, iters, batch_size, lr, seed, amp, cfg_options, options: as in `pretrain`.

    Raises:
        ValueError: neither task nor config, an option is unknown or out of its range, or data cannot be used.
    """
    if task is not None and (task not in DEFAULT_CONFIGS or task == 'pretraining'):
        raise ValueError(f"task={task!r}, expected 'detection', 'segmentation' or 'classification'")
    if (task is None) == (config is None):
        raise ValueError('pass either a task or a config, such as task=\'detection\' or '
                         f'config={DEFAULT_CONFIGS["detection"]!r}')
    return _train('train', data, task or '', config, work_dir, resume, dict(
        pretrained=pretrained, labels=labels, epochs=epochs, iters=iters, batch_size=batch_size, lr=lr, seed=seed,
        amp=amp, cfg_options=cfg_options, **options))


def evaluate(checkpoint: str | Path, data: str | Path, *, config: str | Path | None = None, tta: bool = False,
             work_dir: str | Path | None = None, cfg_options: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Evaluates a checkpoint with the metrics of its config, as `mae-backbone test` does; returns them by name.

    Args:
        checkpoint: of `mae-backbone train` or `mae-backbone publish`.
        data: folder of the data.
        config: config to use in place of the one in the checkpoint.
        tta: test-time augmentation.
        work_dir, cfg_options: as in `pretrain`.

    Raises:
        ValueError: the checkpoint does not fit, or data cannot be used.
    """
    return run_command('test', config or checkpoint, checkpoint, data_root=data, tta=tta, work_dir=work_dir,
                       cfg_options=cfg_options)


def run_command(name: str, *arguments: object, **options: Any) -> Any:
    """Runs a command of the command line in this process.

    Args:
        name: name of the command, such as 'robustness'.
        arguments: in the order of the command line.
        options: by their names with underscores; True sets a flag, None and False leave an option out, a list gives
            several values, and `cfg_options` may be a dict.

    Returns:
        The metrics of 'test', 'train' and 'pretrain'; what their functions return for 'plan', 'auto', 'import',
        'measure' and 'pack'; None for other commands, which print and write files.

    Raises:
        ValueError: an unknown command or option, or any mistake that the command line would print.
    """
    if name not in COMMANDS:
        raise ValueError(f'there is no command {name!r}: expected one of {", ".join(COMMANDS)}')
    command = import_module(f'mae_backbone.cli.{name}')
    overrides = options.pop('cfg_options', None)
    parser = _Parser(prog=name, allow_abbrev=False)
    command.add_options(parser)
    known = {word.lstrip('-').replace('-', '_') for action in parser._actions for word in action.option_strings}
    for option in options:
        if option not in known:
            similar = difflib.get_close_matches(option, known, n=1)
            raise ValueError(f'{name} has no option {option!r}: '
                             + (f'did you mean {similar[0]!r}?' if similar else f'it has {", ".join(sorted(known))}'))
    words = with_config(name, ['--', *map(str, arguments)] if arguments else [])
    args = parser.parse_args([*_option_words(options), *words])
    if overrides is not None:
        args.cfg_options = overrides
    with unchanged_process():
        return command.run(args)


class _Parser(argparse.ArgumentParser):
    """Raises ValueError instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f'{self.prog}: {message}')


def _option_words(options: Mapping[str, Any]) -> list[str]:
    """{'batch_size': 4, 'amp': True} -> ['--batch-size', '4', '--amp']"""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        values = value if isinstance(value, (list, tuple)) else [] if value is True else [value]
        words += [f'--{name.replace("_", "-")}', *map(str, values)]
    return words


def _train(command: str, data: str | Path, task: str, config: str | Path | None, work_dir: str | Path | None,
           resume: str | Path | bool, options: dict[str, Any]) -> TrainingRun:
    config = config or DEFAULT_CONFIGS[task]
    folder = Path(work_dir or Path('work_dirs', find_config(config).stem))
    results = run_command(command, config, data_root=data, work_dir=folder, resume=resume, **options)
    return TrainingRun(folder, Path(last_checkpoint(str(folder))), results)


@contextmanager
def unchanged_process() -> Iterator[None]:
    """Restores what a run changes in a process.

    These are random numbers, threads, loggers, environment, handlers of signals, and MMEngine's instances.
    """
    logger = logging.getLogger('mae_backbone')
    log_state = list(logger.handlers), logger.propagate, logger.level
    numbers = torch.get_rng_state(), np.random.get_state(), random.getstate()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    threads, cv_threads, environment = torch.get_num_threads(), cv2.getNumThreads(), dict(os.environ)
    backends = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    instances = {cls: cls._instance_dict for cls in _managers()}
    for cls in instances:
        cls._instance_dict = OrderedDict()  # names such as 'visualizer' are taken by the run
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for cls in _managers():
            for instance in cls._instance_dict.values():
                for handler in getattr(instance, 'handlers', ()):
                    handler.close()
            cls._instance_dict = instances.get(cls, OrderedDict())
        logger.handlers, logger.propagate = log_state[:2]
        logger.setLevel(log_state[2])
        torch.set_rng_state(numbers[0])
        np.random.set_state(numbers[1])
        random.setstate(numbers[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        torch.set_num_threads(threads)
        cv2.setNumThreads(cv_threads)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = backends
        os.environ.clear()
        os.environ.update(environment)
        for number, handler in handlers.items():  # a run that was stopped by a signal keeps its own
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _managers() -> list[Any]:
    """MMEngine's classes of named instances, such as its loggers and visualizers."""
    classes: list[Any] = [ManagerMixin]
    for cls in classes:
        classes.extend(cls.__subclasses__())
    return classes[1:]
