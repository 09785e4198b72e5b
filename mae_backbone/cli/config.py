"""The config of a run: the file, then the options of the command line over it."""
import argparse
import difflib
import os
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict, DictAction

from mae_backbone.checkpoints.run_files import resume_path
from mae_backbone.utils.config_files import find_config

# What mmengine's Runner reads of a config, and what our tools do.
RUN_KEYS = {
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'vis_backends', 'default_scope', 'randomness', 'experiment_name', 'custom_imports', 'data_root',
    'tta', 'tta_model', 'tta_pipeline', 'compile', 'cfg',
    # Names that the configs of mmdet and mmseg give to parts of these.
    'train_pipeline', 'val_pipeline', 'test_pipeline', 'dataset_type', 'metainfo', 'backend_args', 'max_epochs',
}


def load_config(args: argparse.Namespace) -> Config:
    """The config of a tool's arguments, with --cfg-options, --data-root, --work-dir and --launcher in it.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: a key that nothing reads, or data that cannot be trained on.
    """
    path = find_config(args.config)
    os.environ.setdefault('LOCAL_RANK', str(getattr(args, 'local_rank', 0)))
    cfg = Config.fromfile(path)
    _drop_scope(cfg._cfg_dict)
    options = parse_options(args.cfg_options or [])
    check_keys(cfg, options)
    cfg.merge_from_dict(options)
    if args.data_root:
        from mae_backbone.planning.adapt_config import replace_data_root
        replace_data_root(cfg, args.data_root)
    cfg.launcher = getattr(args, 'launcher', 'none')
    cfg.work_dir = getattr(args, 'work_dir', None) or cfg.get('work_dir') or str(Path('work_dirs', path.stem))
    return cfg


def _drop_scope(node: object) -> None:
    """Removes the `_scope_` that MMEngine puts into a base of `mae_backbone::`: our configs name types of mmdet and
    mmseg, which are found from the default scope.
    """
    if isinstance(node, dict):
        if node.get('_scope_') == 'mae_backbone':
            del node['_scope_']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            _drop_scope(child)


def parse_options(options: list[str]) -> dict[str, object]:
    """KEY=VALUE strings -> {key: value}, where a value is a number, bool, None, list, tuple or string."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction)
    return parser.parse_args(['--options', *options]).options if options else {}


def check_keys(cfg: Config, options: dict) -> None:
    """Raises ValueError for a top-level key that is almost a known one, and for options that would change nothing."""
    for key in cfg:
        near = difflib.get_close_matches(key, RUN_KEYS, n=1, cutoff=0.85)
        if key not in RUN_KEYS and near and near[0] not in cfg:
            raise ValueError(f'{cfg.filename} has the key {key!r}, which nothing reads: did you mean {near[0]!r}?')
    for option in options:
        first = option.split('.')[0]
        if first not in RUN_KEYS and first not in cfg:
            near = difflib.get_close_matches(first, RUN_KEYS | set(cfg), n=1)
            raise ValueError(f'--cfg-options {option}: nothing reads {first!r}'
                             + (f'; did you mean {near[0]!r}?' if near else ', see the top-level keys of the config'))


def fit_to_data(cfg: Config) -> list[str]:
    """Fits the config to the classes of the data; returns lines for the plan."""
    from mae_backbone.planning.adapt_config import adapt_classes
    return adapt_classes(cfg)


def data_lines(cfg: Config, splits: list[str]) -> list[str]:
    """Fits the config to the classes of the data, refuses data that cannot be used; returns lines for the plan."""
    from mae_backbone.formats.check import check_data
    return [*fit_to_data(cfg), *check_data(cfg, splits=tuple(splits))]


def prepare_training(cfg: Config, args: argparse.Namespace) -> list[str]:
    """Puts the training options into the config and checks the work directory; returns lines for the plan."""
    lines = []
    if args.seed is not None:
        cfg.merge_from_dict({'randomness.seed': args.seed})
    if getattr(args, 'labels', None) is not None:
        from mae_backbone.planning.adapt_config import subset_labels
        lines += subset_labels(cfg, args.labels, seed=(cfg.get('randomness') or {}).get('seed') or 0)
    if args.amp:
        lines.append(switch_amp_on(cfg))
    if getattr(args, 'pretrained', None):
        cfg.model.backbone.init_cfg = ConfigDict(type='Pretrained', checkpoint=args.pretrained)
    if args.resume:
        cfg.load_from = resume_path(args.resume, cfg.work_dir)
        cfg.resume = cfg.load_from is not None
        lines.append(f'resumes from {cfg.load_from}' if cfg.resume else f'resumes nothing: {cfg.work_dir} is empty')
    if cfg.get('load_from') and not Path(cfg.load_from).is_file():
        raise FileNotFoundError(f'checkpoint {cfg.load_from} does not exist: check --resume')
    lines.append(scale_learning_rate(cfg))
    make_folder(cfg.work_dir, '--work-dir')
    return lines


def make_folder(folder: str, option: str) -> None:
    """Makes the folder of an option, and finds out before hours of work whether it can be written to."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f'{option} {folder} cannot be written to ({error.strerror}): choose another folder') from error


def switch_amp_on(cfg: Config) -> str:
    """Mixed precision: on CUDA, and in pretraining on CPUs that compute with bfloat16; says what was done."""
    wrapper, cuda = cfg.optim_wrapper, torch.cuda.is_available()
    guarded = (wrapper.get('type') == 'mae_backbone.GuardedOptimWrapper'
               or cfg.get('model', {}).get('type') == 'mae_backbone.MAEPretrainer')
    if not cuda and not guarded:
        return 'precision: float32, --amp needs a GPU'
    if not cuda and not cpu_has_bfloat16():
        return 'precision: float32, this CPU has no matrix instructions for bfloat16: --amp would be slower'
    dtype = 'bfloat16' if not cuda or torch.cuda.is_bf16_supported() else 'float16'
    wrapper.dtype = dtype
    if guarded:
        wrapper.type = 'mae_backbone.GuardedOptimWrapper'
    else:
        wrapper.type = 'AmpOptimWrapper'
        wrapper.loss_scale = 'dynamic' if dtype == 'float16' else 1.0  # bfloat16 has the range of float32
    return f'precision: {dtype} (autocast)' + ('' if cuda else ', which this CPU has instructions for')


def cpu_has_bfloat16(cpuinfo: str = '/proc/cpuinfo') -> bool:
    """Whether the CPU multiplies matrices in bfloat16, as far as Linux tells; without, it is slower than float32."""
    try:
        lines = Path(cpuinfo).read_text(encoding='utf-8', errors='replace').splitlines()
    except OSError:
        return False
    flags = next((line.split(':', 1)[1].split() for line in lines if line.startswith(('flags', 'Features'))), [])
    # avx512_bf16 alone is not enough: on a Sapphire Rapids whose AMX is hidden matrix products took 1.7 times as long
    # in bfloat16 as in float32, and a step of ViT-B 1.8 times (mae-backbone benchmark step --dtype bfloat16).
    return not {'amx_bf16', 'bf16'}.isdisjoint(flags)


def scale_learning_rate(cfg: Config) -> str:
    """Scales the learning rate with the effective batch, where `auto_scale_lr.enable` says so; returns the sum."""
    accumulation = cfg.optim_wrapper.get('accumulative_counts', 1)
    processes = processes_of(cfg.launcher)
    batch = cfg.train_dataloader.batch_size
    effective = batch * accumulation * processes
    optimizer, scaling = cfg.optim_wrapper.optimizer, cfg.get('auto_scale_lr') or {}
    line = f'effective batch {effective} = {batch} a process x {processes} processes x {accumulation} accumulated'
    if not scaling.get('enable'):
        return f'{line}; learning rate {optimizer.lr:.3g}'
    base = optimizer.lr
    optimizer.lr = base * effective / scaling.base_batch_size
    cfg.auto_scale_lr.enable = False  # done: MMEngine would do it again, and leaves accumulation out
    return f'{line}; learning rate {optimizer.lr:.3g} = {base:.3g} x {effective} / {scaling.base_batch_size}'


def processes_of(launcher: str) -> int:
    """Processes of a run before they have found one another, from what its launcher left in the environment."""
    names = {'pytorch': 'WORLD_SIZE', 'slurm': 'SLURM_NTASKS', 'mpi': 'OMPI_COMM_WORLD_SIZE'}
    return int(os.environ.get(names[launcher], 1)) if launcher in names else 1


def last_checkpoint(work_dir: str) -> str:
    """The checkpoint that the next command should take: the best one where there is one, otherwise the latest."""
    best = sorted(Path(work_dir).glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    return str(best[-1]) if best else str(resume_path('auto', work_dir))
