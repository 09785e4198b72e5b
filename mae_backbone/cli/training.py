"""The training options of the command line, written into the config."""
import argparse
import math
import os
from collections.abc import Container, Mapping
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from mae_backbone.checkpoints.run_files import read_run, resume_path
from mae_backbone.cli.config import check_kept, make_folder, parse_options
from mae_backbone.cli.errors import is_rank0
from mae_backbone.cli.main import checkpoints_in
from mae_backbone.cli.weights import set_weights
from mae_backbone.formats.layout_config import write_made_split
from mae_backbone.planning.data_settings import setting_warnings
from mae_backbone.utils.cpu import cpu_has_bfloat16


def prepare_training(cfg: Config, args: argparse.Namespace) -> list[str]:
    """Writes the training options into the config and makes the work directory; returns lines for the plan.

    It also measures the training images, and warns of settings of the config that do not fit them.

    Raises:
        FileNotFoundError: the checkpoint to continue from does not exist.
        OSError: the work directory cannot be written to.
        ValueError: an option that does not fit the config.
    """
    lines = []
    missing = [key for key in ('train_dataloader', 'train_cfg', 'optim_wrapper') if not cfg.get(key, True)]
    if missing:
        raise ValueError(f'the config has no {" and no ".join(missing)}, which a training needs: take another config '
                         '(configs of nearest neighbors are for `mae-backbone test`)')
    if str(cfg.model.get('type')).endswith('ViTClassifier') and cfg.model.get('num_classes') == 0:
        raise ValueError('model.num_classes=0 is a classifier without a head, which cannot be trained: set it to the '
                         'number of classes; configs of nearest neighbors are for `mae-backbone test`')
    if args.seed is not None:
        cfg.merge_from_dict({'randomness.seed': args.seed})
    if getattr(args, 'labels', None) is not None:
        from mae_backbone.planning.adapt_config import subset_labels
        lines += subset_labels(cfg, args.labels, seed=(cfg.get('randomness') or {}).get('seed') or 0)
    if args.amp:
        lines.append(enable_amp(cfg))
    if args.tf32:
        cfg.tf32 = True
        lines.append('matrix products: TF32' if torch.cuda.is_available() else
                     'matrix products: float32, --tf32 needs a GPU')
    if args.resume:
        cfg.load_from = resume_path(args.resume, cfg.work_dir)
        cfg.resume = cfg.load_from is not None
        lines.append(f'resumes from {cfg.load_from}' if cfg.resume else
                     f'nothing to resume: {cfg.work_dir} has no checkpoint')
    lines += set_weights(cfg, getattr(args, 'pretrained', None), key=getattr(args, 'weights_key', None),
                         heads=getattr(args, 'weights_heads', None))
    if cfg.get('load_from') and not Path(cfg.load_from).is_file():
        raise FileNotFoundError(_no_file(cfg.load_from))
    typed = dict(args.cfg_options) if isinstance(args.cfg_options, Mapping) else parse_options(args.cfg_options or [])
    if args.epochs is not None or args.iters is not None:
        lines.append(set_length(cfg, epochs=args.epochs, iters=args.iters, typed=typed))
    else:
        lines += unfinished_schedule(cfg, typed)
    lines.append(set_batch_and_lr(cfg, batch_size=args.batch_size, lr=args.lr))
    check_kept(cfg, args)
    if is_rank0():
        lines += setting_warnings(cfg)  # after the weights, which may set the normalization of the pixels
    make_folder(cfg.work_dir, '--work-dir')
    if is_rank0():
        lines += write_made_split(cfg, cfg.work_dir)
    return lines


def _no_file(checkpoint: str) -> str:
    """Returns the message for a checkpoint to continue from that is no file."""
    if not Path(checkpoint).is_dir():
        return f'checkpoint {checkpoint} does not exist: check --resume'
    files = checkpoints_in(Path(checkpoint))
    return f'{checkpoint} is a folder, expected a checkpoint: ' + (
        f'pass one of its files, such as {files[-1]}, or --work-dir {checkpoint} and --resume without a value' if files
        else 'it has none, check --resume')


def set_length(cfg: Config, *, epochs: int | None = None, iters: int | None = None,
               typed: Container[str] = ()) -> str:
    """Sets the length of the training, and stretches schedule, warm-up and validation interval alike.

    Args:
        cfg: config of the training; it is changed.
        epochs, iters: the length, in the unit in which the config counts.
        typed: keys that the user has set by --cfg-options. A validation interval among them is not stretched.

    Returns:
        A line for the plan.

    Raises:
        ValueError: both lengths, or one in a unit that the config does not count in.
    """
    key = 'max_epochs' if cfg.train_cfg.get('max_epochs') else 'max_iters'
    option, other = ('--epochs', '--iters') if key == 'max_epochs' else ('--iters', '--epochs')
    value, unused = (epochs, iters) if key == 'max_epochs' else (iters, epochs)
    if unused is not None or value is None:
        raise ValueError(f'{other}: this config counts in {key.removeprefix("max_")} ({key}={cfg.train_cfg[key]:,}): '
                         f'pass {option} instead')
    before = cfg.train_cfg[key]
    factor = value / before

    def stretched(length: int) -> int:
        # Rounded up: an interval that is too short by a fraction gives one more validation, right before the end.
        return math.ceil(length * value / before)

    cfg.train_cfg[key] = value
    for name in ('val_interval', 'val_begin'):
        if name in cfg.train_cfg and f'train_cfg.{name}' not in typed:
            cfg.train_cfg[name] = min(value, stretched(cfg.train_cfg[name]))
    if cfg.train_cfg.get('dynamic_intervals'):
        cfg.train_cfg.dynamic_intervals = [(stretched(begin), stretched(interval))
                                           for begin, interval in cfg.train_cfg.dynamic_intervals]
    _stretch_schedule(cfg.get('param_scheduler') or [], factor)
    _shorten_intervals(cfg, value, by_epoch=key == 'max_epochs')
    unit = key.removeprefix('max_')
    return (f'schedule, warm-up and validation interval are multiplied by {factor:.3g}: {value:,} {unit} instead of '
            f'the {before:,} of the config')


def unfinished_schedule(cfg: Config, typed: Container[str]) -> list[str]:
    """A warning if --cfg-options shortens the training, and the schedule of the learning rate ends after it."""
    for key, by_epoch in (('max_epochs', True), ('max_iters', False)):
        schedule = cfg.get('param_scheduler') or []
        ends = [scheduler.get('end') or 0 for scheduler in ([schedule] if isinstance(schedule, dict) else schedule)
                if scheduler.get('by_epoch', True) is by_epoch]
        end = max((end for end in ends if end < 10**9), default=0)  # MMEngine's infinity is larger
        if f'train_cfg.{key}' in typed and end > (length := cfg.train_cfg[key]):
            unit = key.removeprefix('max_')
            return [f'warning: the training ends after {length:,} {unit}, and the schedule of the learning rate after '
                    f'{end:,}: pass --{unit} {length} in place of train_cfg.{key}, which stretches the schedule']
    return []


def _stretch_schedule(param_scheduler: dict | list[dict], factor: float) -> None:
    """Multiplies the steps at which the parts of a schedule begin and end."""
    schedulers = param_scheduler if isinstance(param_scheduler, (list, tuple)) else [param_scheduler]
    for by_epoch in (True, False):
        members = [scheduler for scheduler in schedulers if scheduler.get('by_epoch', True) is by_epoch]
        bounds = {0: 0}
        for bound in sorted({scheduler[key] for scheduler in members for key in ('begin', 'end')
                             if 0 < scheduler.get(key, 0) < 10**9}):  # MMEngine's infinity is larger
            # A warm-up of one step would stay at its first value: MMEngine reaches the last one after end - begin - 1.
            shortest = 1 if all(scheduler.get('convert_to_iter_based') for scheduler in members) else 2
            bounds[bound] = max(round(bound * factor), max(bounds.values()) + shortest)
        for scheduler in members:
            begin, end = scheduler.get('begin', 0), scheduler.get('end', 10**9)
            for key, bound in (('begin', begin), ('end', end)):
                if key in scheduler:
                    scheduler[key] = bounds.get(bound, bound)
            for key in ('T_max', 'total_iters', 'step_size', 'cosine_length'):
                if key in scheduler:
                    whole = key == 'T_max' and scheduler[key] == end - begin
                    scheduler[key] = (scheduler['end'] - bounds.get(begin, begin)) if whole else \
                        max(1, round(scheduler[key] * factor))
            if 'milestones' in scheduler:
                scheduler['milestones'] = [max(1, round(step * factor)) for step in scheduler['milestones']]


def _shorten_intervals(cfg: Config, length: int, *, by_epoch: bool) -> None:
    """Limits the intervals of hooks to the length of the training, so that each hook acts at its end at least."""
    for hook in [*(cfg.get('default_hooks') or {}).values(), *(cfg.get('custom_hooks') or [])]:
        counted = isinstance(hook, dict) and isinstance(hook.get('interval'), int)
        if counted and hook.get('by_epoch', True) is by_epoch and hook.get('type') != 'LoggerHook':
            hook.interval = min(hook.interval, length) if hook.interval > 0 else hook.interval


def set_batch_and_lr(cfg: Config, *, batch_size: int | None = None, lr: float | None = None) -> str:
    """Sets the batch size per process and the peak learning rate; returns the calculation as a line for the plan.

    Without `lr`, the learning rate of the config is scaled with the effective batch in two cases: if
    `auto_scale_lr.enable` is True, or if `batch_size` is given and `auto_scale_lr.base_batch_size` states the batch
    that the rate is meant for. A given `lr` is not scaled.
    """
    optimizer, scaling = cfg.optim_wrapper.optimizer, cfg.get('auto_scale_lr') or ConfigDict()
    before = cfg.train_dataloader.batch_size
    if batch_size is not None:
        cfg.train_dataloader.batch_size = batch_size
    accumulation, processes = cfg.optim_wrapper.get('accumulative_counts', 1), num_processes(cfg.launcher)
    batch = cfg.train_dataloader.batch_size
    effective = batch * accumulation * processes
    line = f'effective batch {effective} = {batch} per process x {processes} processes x {accumulation} accumulated'
    base, scale = optimizer.lr, scaling.get('base_batch_size')
    if scaling.get('enable') and not scale:
        raise ValueError('auto_scale_lr.enable=True without auto_scale_lr.base_batch_size, the batch that the learning '
                         'rate is meant for: set it, such as --cfg-options auto_scale_lr.base_batch_size=16')
    if scaling:
        # Disabled, because MMEngine would scale the rate a second time, and does not count accumulation.
        enabled, cfg.auto_scale_lr.enable = bool(scaling.get('enable')), False
    else:
        enabled = False
    if lr is not None:
        optimizer.lr = lr
        return f'{line}; peak learning rate {lr:.3g} (--lr; {base:.3g} in the config)'
    if scale and (enabled or (batch_size is not None and batch_size != before)):
        optimizer.lr = base * effective / scale
        return f'{line}; peak learning rate {optimizer.lr:.3g} = {base:.3g} x {effective} / {scale}'
    unscaled = ', which is not scaled with the batch: pass --lr' * (batch_size is not None and batch_size != before)
    return f'{line}; peak learning rate {base:.3g}{unscaled}'


def enable_amp(cfg: Config) -> str:
    """Enables mixed precision: on CUDA, and on CPUs that multiply matrices in bfloat16.

    Returns:
        A line for the plan.
    """
    wrapper, cuda = cfg.optim_wrapper, torch.cuda.is_available()
    if not cuda and not cpu_has_bfloat16():
        return 'precision: float32, this CPU is not faster in bfloat16: --amp has no effect'
    # V100, T4 and RTX 20 only emulate bfloat16, several times slower than float16, which they have units for.
    native = not cuda or torch.cuda.is_bf16_supported(including_emulation=False)
    wrapper.type, wrapper.dtype = 'mae_backbone.GuardedOptimWrapper', 'bfloat16' if native else 'float16'
    wrapper.pop('loss_scale', None)  # an option of mmengine's AmpOptimWrapper
    why = '' if native else ' with a scaled loss, this GPU has no units for bfloat16'
    return f'precision: {wrapper.dtype} (autocast)' + (why if cuda else ', which this CPU has instructions for')


def num_processes(launcher: str) -> int:
    """Returns the number of processes of a run, from the environment variables of its launcher."""
    names = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}
    return int(os.environ.get(names[launcher], 1)) if launcher in names else 1


def has_foreign_types(cfg: Config) -> bool:
    """True if a config imports modules of the user: types in them are not built from the config in a checkpoint."""
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    return any(name.split('.')[0] not in ('mae_backbone', 'mmdet', 'mmseg')
               for name in ([imports] if isinstance(imports, str) else imports))


def last_checkpoint(work_dir: str) -> str:
    """The checkpoint for the next command: the best one if there is one, otherwise the latest.

    A best checkpoint of an earlier run in the same folder does not count: it is older than the latest checkpoint, which
    does not name it.
    """
    latest = resume_path('auto', work_dir)
    best = sorted(Path(work_dir).glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    if best and latest is not None and best[-1].stat().st_mtime < Path(latest).stat().st_mtime:
        named = _best_files(latest)
        best = [file for file in best if file.name in named]
    return str(best[-1]) if best else str(latest)


def _best_files(checkpoint: str) -> set[str]:
    """Names of the best checkpoints of a run until one of its checkpoints was saved."""
    info = read_run(checkpoint).get('message_hub', {}).get('runtime_info', {})
    return {Path(path).name for key, path in info.items() if key.startswith('best_ckpt') and isinstance(path, str)}
