"""What the tools share: options, the config they lead to, the plan that is printed, and readable errors."""
import argparse
import difflib
import errno
import os
import re
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from mmengine.registry import OPTIMIZERS
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor, nn
from torch import distributed as dist

from mae_backbone.checkpoints.files import DiskFullError
from mae_backbone.engine.runner import Runner, resume_path
from mae_backbone.utils.subprocesses import end_with_parent

# What gloo and NCCL say when a process of the run is gone.
_LOST = ('Connection closed by peer', 'Connection reset by peer', 'Broken pipe', 'Connection refused', 'NCCL error',
         'NCCL communicator was aborted', 'Timed out waiting', 'remote process has terminated', 'Watchdog caught')

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


def run_parser(description: str) -> argparse.ArgumentParser:
    """The options that every tool around a Runner has; their names are those of mmdet's tools."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file, such as one of configs/')
    parser.add_argument('--work-dir', help='where logs, pictures and checkpoints go (default: work_dirs/CONFIG NAME)')
    parser.add_argument('--data-root', metavar='DIR', help="your data, laid out as the config's head says")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='settings over those of the config, such as train_dataloader.batch_size=8')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes of a distributed run were started (torchrun: pytorch)')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def training_parser(description: str) -> argparse.ArgumentParser:
    """`run_parser` with what only training needs."""
    parser = run_parser(description)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='PATH|auto',
                        help='go on from a checkpoint; without a path from the latest one of the work directory')
    parser.add_argument('--amp', action='store_true',
                        help='mixed precision: bfloat16 where the GPU has it, or in pretraining the CPU')
    parser.add_argument('--pretrained', metavar='CHECKPOINT', help='start the encoder from this checkpoint')
    parser.add_argument('--labels', type=float, metavar='SHARE',
                        help='train on this share of the labeled images, such as 0.1; --seed chooses them')
    parser.add_argument('--seed', type=int, metavar='N', help="of all chance in the run (default: the config's)")
    return parser


def tool(main: Callable[[], None], *, again: str = 'the same command with --resume goes on') -> None:
    """Runs a tool; a user's mistake ends in one readable message and exit code 2, not in a traceback.

    `again` says what to do after an interruption. A run that was told to stop and has saved (PreemptionHook) ends with
    128 + the number of the signal, as does one that gets SIGTERM or SIGUSR1 where there is nothing to save.

    With MAE_BACKBONE_TRACEBACK=1 in the environment the traceback is printed too.
    """
    for number in (signal.SIGTERM, getattr(signal, 'SIGUSR1', signal.SIGTERM)):
        signal.signal(number, _terminated)
    end_with_parent()
    try:
        main()
    except SystemExit:
        _leave_group()
        raise
    except KeyboardInterrupt:
        print(f'\ninterrupted: what was written stays; {again}', file=sys.stderr)
        _end(130)
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get('MAE_BACKBONE_TRACEBACK'):
            traceback.print_exc()
        if message is None:
            print('This is a defect of the program, not of your input: please report it with the lines above.',
                  file=sys.stderr)
            _end(1)
        if not (getattr(error, 'everywhere', False) and os.environ.get('RANK', '0') != '0'):
            print(f'error: {message}', file=sys.stderr)
        _end(2)
    _leave_group()


def _terminated(number: int, *_: object) -> None:
    """What a cluster sends before it kills: end as after Ctrl-C, so that processes started from here end too."""
    print(f'\n{signal.Signals(number).name}: terminated, what was written stays', file=sys.stderr)
    sys.exit(128 + number)


def _leave_group() -> None:
    """Says goodbye to the other processes of a distributed run."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _end(code: int) -> NoReturn:
    """Exits, at once in a distributed run: its threads may wait for processes that are gone."""
    if dist.is_available() and dist.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def explain(error: Exception) -> str | None:
    """One readable message for what a user can mend; None for a defect of ours."""
    text = str(error)
    if isinstance(error, DiskFullError):
        return error.strerror
    if isinstance(error, RuntimeError) and any(sign in text for sign in _LOST):
        return (f'process {os.environ.get("RANK", "?")}: another process of this run has ended or does not answer, see '
                'its last lines; the checkpoints stay, and the same command with --resume goes on '
                f'({_first_line(text)})')
    if getattr(error, 'errno', None) == errno.ENOSPC or 'No space left on device' in text:
        return ('the disk is full: free some space or choose another --work-dir, then run the same command again, '
                'training with --resume')
    if isinstance(error, OSError) and error.filename is not None:
        return f'{error.filename}: {error.strerror or error}: check the path and its permissions'
    if isinstance(error, (ValueError, OSError)):
        return _without_worker(text, error)
    if isinstance(error, torch.OutOfMemoryError):
        return f'the GPU is out of memory: lower train_dataloader.batch_size or use --amp ({text.splitlines()[0]})'
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in text:
        return ('the machine has too little memory: lower the batch size or the size of the images '
                f'({text[text.index("DefaultCPUAllocator"):].splitlines()[0]})')
    # MMEngine's ways to say that a config names something that does not exist.
    if isinstance(error, KeyError) and 'registry' in text:
        return f'the config names a type that does not exist: {text.strip(chr(34))}'
    if isinstance(error, TypeError) and 'argument' in text and '__init__' in text:
        return f'the config has a key that does not exist, or misses one: {text}'
    if isinstance(error, TypeError) and 'inherit' in text:  # a dict over a base's other value
        return f'the config, or --cfg-options, puts a dict in the place of something else: {text}'
    if isinstance(error, ImportError) and 'pip install' in text:  # such as that of the W&B backend
        return f'the config asks for a package that is not installed: {text}'
    if isinstance(error, SyntaxError):
        return f'the config is no valid Python: {error.filename}, line {error.lineno}: {error.msg}'
    if isinstance(error, RuntimeError) and 'DataLoader worker' in text and 'exited unexpectedly' in text:
        return ('a process that loads data was killed, most often for want of memory: lower '
                'train_dataloader.num_workers or train_dataloader.batch_size')
    return explain(error.__cause__) if isinstance(error.__cause__, Exception) else None


def _without_worker(text: str, error: Exception) -> str:
    """What an error says, without the traceback that a worker of a DataLoader puts before it."""
    return text.partition(f'{type(error).__name__}: ')[2] or text if 'in DataLoader worker' in text else text


def _first_line(text: str) -> str:
    return re.sub(r'^\[[^]]*\]\s*', '', text.strip()).splitlines()[0][:160]


def load_config(args: argparse.Namespace) -> Config:
    """The config of a tool's arguments, with --cfg-options, --data-root, --work-dir and --launcher in it.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: a key that nothing reads, or data that cannot be trained on.
    """
    path = Path(args.config)
    if not path.is_file():
        known = sorted(str(file) for file in Path('configs').glob('**/*.py') if '_base_' not in file.parts)
        near = difflib.get_close_matches(str(path), known, n=3, cutoff=0.5)
        raise FileNotFoundError(f'config {path} does not exist' + (f': did you mean {", ".join(near)}?' if near else
                                                                   ': pass one of the files under configs/'))
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(path)
    check_keys(cfg, args.cfg_options or {})
    cfg.merge_from_dict(args.cfg_options or {})
    if args.data_root:
        from mae_backbone.planning.adapt_config import use_data_root
        use_data_root(cfg, args.data_root)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs', path.stem))
    return cfg


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
    from mae_backbone.planning.adapt_config import fit_classes
    return fit_classes(cfg)


def data_lines(cfg: Config, splits: list[str]) -> list[str]:
    """Fits the config to the classes of the data, refuses data that cannot be used; returns lines for the plan."""
    from mae_backbone.formats.check import check_data
    return [*fit_to_data(cfg), *check_data(cfg, splits=tuple(splits))]


def prepare_training(cfg: Config, args: argparse.Namespace) -> list[str]:
    """Puts the options of `training_parser` into the config, checks the work directory; returns lines for the plan."""
    lines = []
    if args.seed is not None:
        cfg.merge_from_dict({'randomness.seed': args.seed})
    if args.labels is not None:
        from mae_backbone.formats.subset import use_labels
        lines += use_labels(cfg, args.labels, seed=(cfg.get('randomness') or {}).get('seed') or 0)
    if args.amp:
        lines.append(switch_amp_on(cfg))
    if args.pretrained:
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
    # in bfloat16 as in float32, and a step of ViT-B 1.8 times (tools/benchmark.py step --dtype bfloat16).
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


def print_plan(runner: Runner, lines: list[str]) -> None:
    """Says what is about to be done."""
    parameters = list(runner.model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    say(f'model: {type(runner.model).__name__}, {sum(p.numel() for p in parameters) / 1e6:.2f} M parameters, '
        f'{trained / 1e6:.2f} M of them trained')
    for line in lines:
        say(line)
    device = get_device()
    detail = torch.cuda.get_device_name() if device == 'cuda' else f'{torch.get_num_threads()} threads'
    say(f'device: {device}, {detail}')
    for line in length_and_memory(runner):
        say(line)
    say(f'results go to {runner.work_dir}')


def length_and_memory(runner: Runner) -> list[str]:
    """Lines about the steps of a pretraining and the memory that one takes; of other models nothing is known."""
    from mae_backbone.models.pretrainer import MAEPretrainer
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, MAEPretrainer):
        return []
    loop, images = runner.train_loop, len(runner.train_dataloader.dataset)
    steps, batch = len(runner.train_dataloader), runner.train_dataloader.batch_sampler.batch_size
    whole = isinstance(loop, EpochBasedTrainLoop) and loop.max_iters == loop.max_epochs * steps
    length = f'{loop.max_epochs:,} epochs x {steps:,} steps = ' * whole + f'{loop.max_iters:,} steps'
    lines = [f'length: {length}, on {images:,} images; time to go: measured over the first 20 steps, then in the log']
    if any(hasattr(p, 'full_tensor') for p in model.parameters()):  # sharded: each process has a part
        return lines
    return [*lines, memory_line(model, runner.optim_wrapper, batch)]


def memory_line(model: nn.Module, wrapper: dict, batch: int) -> str:
    """What a process will hold at the peak of a step on `batch` images; `wrapper` is the config of its optimizer."""
    from mae_backbone.engine.memory_estimate import step_memory
    encoder, device = model.mae.encoder, next(model.parameters()).device
    height, width = (side * encoder.patch_size for side in encoder.grid)
    kind, dtype = device.type, getattr(torch, wrapper.get('dtype') or 'float32')

    def loss_of(called: Callable) -> Tensor:
        images = torch.zeros(batch, encoder.in_channels, height, width, device=device)
        with torch.autocast(kind, None if dtype == torch.float32 else dtype, enabled=dtype != torch.float32):
            return called(images, mode='loss')['loss']
    optimizer = OPTIMIZERS.build(dict(wrapper['optimizer'], params=[nn.Parameter(torch.zeros(1))]))
    try:
        need = step_memory(model, loss_of, optimizer)
    except Exception as error:  # such as masking of a user's that looks at values: an estimate stops no run
        return f'memory: not estimated, {type(error).__name__}: {_first_line(str(error) or "-")}'
    weights, moments, step = (f'{part / 2**30:.2f}' for part in need)
    return (f'memory: {need.total / 2**30:.2f} GB expected for tensors at the peak of a step, in each process (weights '
            f'{weights}, moments {moments}, activations and gradients {step})')


def say(line: str) -> None:
    """Prints a line, once in a distributed run."""
    if int(os.environ.get('RANK', 0)) == 0:
        print(line, flush=True)


def last_checkpoint(work_dir: str) -> str:
    """The checkpoint that the next command should take: the best one where there is one, otherwise the latest."""
    best = sorted(Path(work_dir).glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    return str(best[-1]) if best else str(resume_path('auto', work_dir))
