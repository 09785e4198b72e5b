"""Checkpoint files of a run: writes them atomically, finds the latest one that is not damaged, and reads them."""
import errno
import logging
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor, nn
from torch.optim import Optimizer

from mae_backbone.checkpoints.adapters import has_adapters, merged_weights
from mae_backbone.checkpoints.decoding import History
from mae_backbone.checkpoints.detectron2 import from_detectron2
from mae_backbone.checkpoints.published import read_checkpoint
from mae_backbone.checkpoints.reading import CheckpointError, check_directory
from mae_backbone.checkpoints.run_content import check_run
from mae_backbone.checkpoints.sharding import scatter_shard
from mae_backbone.checkpoints.state_dicts import check_finite, few, is_finite, mismatches, weights_in
from mae_backbone.utils.atomic_write import FULL_DISK, atomic_path, partial_files, write_text

INTERRUPTED = 'interrupted.pth'  # checkpoint that is saved when a signal stops the run
_PATTERNS = ('epoch_*.pth', 'iter_*.pth', INTERRUPTED)
_LOG = logging.getLogger(__name__)


class DiskFullError(OSError):
    """The disk has not enough space for a checkpoint. `errno` is ENOSPC."""


# --- writing

def write_checkpoint(content: dict, path: Path) -> None:
    """Saves `content` to `path` atomically: it is written to a temporary file, which is flushed to disk and renamed.

    At any time, the file at `path` is either the complete old file or the complete new file.

    Raises:
        DiskFullError: the disk is full. The old file is kept.
    """
    needed = size_of(content)
    if shutil.disk_usage(path.parent).free < needed:
        raise _disk_full(path, needed)
    try:
        with atomic_path(path, durable=True) as temporary, open(temporary, 'wb') as file:
            torch.save(content, file)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError for some errors of the disk
        if getattr(error, 'errno', None) in FULL_DISK or shutil.disk_usage(path.parent).free < needed:
            raise _disk_full(path, needed) from error
        raise


def write_note(path: Path, work_dir: str | Path) -> None:
    """Writes the path of the last checkpoint of a run to the file `last_checkpoint`, which MMEngine reads."""
    write_text(Path(work_dir, 'last_checkpoint'), str(path), durable=True)


def size_of(content: object) -> int:
    """Returns the number of bytes that `content` needs in a file, exact to a few thousand bytes."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, dict):
        return sum(size_of(value) for value in content.values())
    if isinstance(content, (list, tuple)):
        return sum(size_of(value) for value in content)
    if isinstance(content, HistoryBuffer):
        return sum(array.nbytes for array in content.data)
    return 0


def remove_partial_files(folder: str | Path) -> list[Path]:
    """Removes files that were not completely written because the run was killed. Returns their paths."""
    paths = partial_files(folder)
    for path in paths:
        path.unlink(missing_ok=True)
    return paths


def _disk_full(path: Path, needed: int) -> DiskFullError:
    free = shutil.disk_usage(path.parent).free
    kept = next(_complete_archives(path.parent), None)
    return DiskFullError(errno.ENOSPC, f'no room for the checkpoint {path}: it needs {_megabytes(needed)}, and '
                         f'{_megabytes(free)} are free. '
                         + (f'{kept} stays as it is' if kept else 'There is no earlier checkpoint')
                         + '. Free some space, or choose another --work-dir; then continue with the same command and '
                         '--resume')


def _complete_archives(folder: Path) -> Iterator[Path]:
    return (path for path in saved_checkpoints(folder) if zipfile.is_zipfile(path))


def _megabytes(number: int) -> str:
    return f'{number / 1e6:,.0f} MB' if number >= 1e7 else f'{number / 1e6:,.2f} MB'


# --- finding

def resume_path(resume: str | None, work_dir: str | Path) -> str | None:
    """Returns the checkpoint for the option `--resume`; None to start from the beginning.

    Args:
        resume: value of the option: a path, None, or 'auto' for the latest checkpoint in the work directory that is not
            damaged.
        work_dir: work directory of the run.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    if resume != 'auto':
        return resume
    damaged: dict[Path, str] = {}
    latest = latest_intact(work_dir, damaged)
    for path, problem in damaged.items() if os.environ.get('RANK', '0') == '0' else ():
        _LOG.warning('%s is damaged (%s): resuming from %s instead', path, problem, latest)
    return None if latest is None else str(latest)


def latest_intact(work_dir: str | Path, damaged: dict[Path, str]) -> Path | None:
    """Returns the latest checkpoint of a run that is not damaged; None if the run has no checkpoints.

    Args:
        work_dir: work directory of the run.
        damaged: receives the later checkpoints that are damaged, with the reason.

    Raises:
        CheckpointError: there are checkpoints, and all of them are damaged.
    """
    for path in saved_checkpoints(work_dir):
        problem = find_corruption(path)
        if problem is None:
            return path
        damaged[path] = problem
    if damaged:
        raise CheckpointError('every checkpoint is damaged: ' + '; '.join(f'{path} ({problem})' for path, problem
                                                                          in damaged.items())
                              + '. Copy one again from elsewhere, or remove them to start from the beginning')
    return None


def saved_checkpoints(work_dir: str | Path) -> list[Path]:
    """Returns the checkpoints of a run, in the order in which resuming tries them. Some of them may be damaged.

    The checkpoint named in the file `last_checkpoint` is first, followed by the others, latest first. A checkpoint that
    is newer than the file `last_checkpoint` comes before it, because the run may have been killed after it wrote the
    checkpoint and before it wrote the file; unless the checkpoint is of an earlier iteration, because copying a folder
    changes the times of its files.
    """
    note = Path(work_dir, 'last_checkpoint')
    noted = _noted(note)
    folders = {Path(work_dir)} if noted is None else {Path(work_dir), noted.parent}
    saved = sorted((file for folder in folders for pattern in _PATTERNS for file in folder.glob(pattern)),
                   key=_age, reverse=True)
    if noted is None or not noted.is_file():
        return saved
    others = [file for file in saved if file != noted]
    written = note.stat().st_mtime_ns
    later = [file for file in others if file.stat().st_mtime_ns > written and not _is_earlier(file, noted)]
    return later + [noted] + [file for file in others if file not in later]


def _noted(note: Path) -> Path | None:
    """Returns the checkpoint that the file `last_checkpoint` names; None if it names none, as after a power failure.

    A checkpoint of this name next to the file takes precedence, because the folder may have been moved or copied.
    """
    try:
        path = Path(note.read_text(encoding='utf-8').strip()) if note.is_file() else Path()
    except UnicodeDecodeError:
        return None
    if not path.name:
        return None
    local = note.with_name(path.name)
    if path.is_file() and (not local.is_file() or local.samefile(path)):
        return path
    return local


def _age(file: Path) -> tuple[int, int]:
    """The time of a checkpoint, and its iterations for checkpoints of the same time."""
    return file.stat().st_mtime_ns, _steps(file)


def _steps(file: Path) -> int:
    """The iterations or epochs in the name of a checkpoint; 0 without."""
    number = file.stem.rpartition('_')[2]
    return int(number) if number.isdecimal() else 0


def _is_earlier(file: Path, other: Path) -> bool:
    """True if two checkpoints are named by the same unit, and the first is of an earlier iteration or epoch."""
    return file.stem.rpartition('_')[0] == other.stem.rpartition('_')[0] and _steps(file) < _steps(other)


def find_corruption(path: Path) -> str | None:
    """Verifies the checksums of a checkpoint. Returns the reason why it is damaged, or None if it is not damaged."""
    try:
        with open(path, 'rb') as file:
            check_directory(file)
            with zipfile.ZipFile(file) as archive:
                bad = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        return str(error) or type(error).__name__
    return None if bad is None else f'checksum of {bad}'


# --- reading

def read_run(path: str | Path) -> dict:
    """Reads a checkpoint of MMEngine with its optimizer and log history, or of detectron2 (only `state_dict`).

    The text of the config is removed from the result, because MMEngine would execute it when the run is resumed.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, or is not a checkpoint of a run.
    """
    return run_in(read_checkpoint(path), path)


def run_in(content: object, path: str | Path) -> dict:
    """Like `read_run`, for the content of the file at `path`, which is changed in place."""
    if Path(path).suffix == '.pkl':
        return dict(state_dict=from_detectron2(weights_in(content, path)), meta={})
    if not isinstance(content, dict) or 'state_dict' not in content or 'meta' not in content:
        raise CheckpointError(f'{path} holds no run of `mae-backbone train` or `mae-backbone pretrain` (no '
                              'state_dict and meta): pass one of those. Pass other weights to --pretrained, '
                              'which starts a new run')
    check_run(content, path)
    for key in ('cfg', 'config'):
        content['meta'].pop(key, None)
    if content.get('message_hub'):  # empty in published files
        scalars = content['message_hub']['log_scalars']
        scalars.update({name: HistoryBuffer(*value) for name, value in scalars.items() if isinstance(value, History)})
    return content


def check_optimizer_state(state: dict, optimizer: Optimizer, path: str | Path) -> None:
    """Raises CheckpointError if the state of an optimizer in a checkpoint does not fit the parameters of `optimizer`.

    torch does not check this. It loads moments of any shape and fails in the first step.
    """
    groups, stored = state.get('param_groups'), state.get('state')
    advice = 'Resume with the config that the run was started with, or start a new run from its weights (load_from)'
    if not isinstance(groups, list) or not isinstance(stored, dict) or not all(
            isinstance(group, dict) and isinstance(group.get('params'), list)
            and all(isinstance(index, int) for index in group['params']) and is_finite_number(group.get('lr'))
            and is_finite_number(group.get('initial_lr', 0)) for group in groups):
        raise CheckpointError(f'{path}: its optimizer has no groups of parameters, the file was changed or damaged: '
                              'copy it again')
    sizes, expected = [len(group['params']) for group in groups], [len(g['params']) for g in optimizer.param_groups]
    if sizes != expected:
        raise CheckpointError(f'{path}: its optimizer has {sum(sizes)} parameters in {len(sizes)} groups, the model of '
                              f'this config has {sum(expected)} in {len(expected)}. {advice}')
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    indices = [index for group in groups for index in group['params']]
    names = _state_names(optimizer)
    problems = []
    for index, parameter in zip(indices, parameters, strict=True):
        if index not in stored:
            continue  # the parameter has not been updated yet
        values = stored[index]
        if not isinstance(values, dict) or (names is not None and values.keys() != names.keys()):
            problems.append(f'state of parameter {index}: other entries than {type(optimizer).__name__} keeps')
            continue
        for name, value in values.items():
            expected_shape = tuple(parameter.shape) if names is None or names[name] else ()
            shape = tuple(value.shape) if isinstance(value, Tensor) else ()
            if (names is not None or shape) and shape != expected_shape:
                problems.append(f'{name} of parameter {index}: {shape} in the file, {expected_shape} expected')
            elif names is not None and not isinstance(value, (Tensor, int, float)):
                problems.append(f'{name} of parameter {index}: {value!r:.40} in the file, a number expected')
            elif isinstance(value, Tensor) and not is_finite(value):
                problems.append(f'{name} of parameter {index}: NaN or infinite')
    if problems or not set(stored) <= set(indices):
        raise CheckpointError(f'{path}: its optimizer does not belong to the model of this config. '
                              f'{few(problems) or "It has states of unknown parameters"}. {advice}')


def is_finite_number(value: object) -> bool:
    """True if a value is an integer or a finite float."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def _state_names(optimizer: Optimizer) -> dict[str, bool] | None:
    """Returns the names of the state tensors of a parameter, and whether each has the shape of the parameter.

    They are determined by a step of the same optimizer on a small parameter. Returns None if this fails, or if a state
    is neither a scalar nor of the shape of the parameter.
    """
    parameter = nn.Parameter(torch.zeros(3, 5))
    parameter.grad = torch.ones_like(parameter)
    settings = {key: value for key, value in optimizer.defaults.items() if key not in ('fused', 'foreach')}
    try:
        kind: Callable[..., Optimizer] = type(optimizer)
        other = kind([dict(settings, params=[parameter])], lr=1e-3)
        other.step()
    except (TypeError, RuntimeError, ValueError):
        return None
    shapes = {name: tuple(value.shape) if isinstance(value, Tensor) else () for name, value
              in other.state[parameter].items()}
    if not set(shapes.values()) <= {(), (3, 5)}:
        return None
    return {name: shape == (3, 5) for name, shape in shapes.items()}


def merge_adapters(checkpoint: dict, names: Iterable[str]) -> None:
    """Merges the low-rank adapters of a checkpoint into its weights, unless the model has adapters too.

    Args:
        checkpoint: checkpoint, changed in place.
        names: names of the weights of the model.
    """
    if not has_adapters(names):
        checkpoint['state_dict'] = merged_weights(checkpoint['state_dict'])


def load_model(model: nn.Module, checkpoint: dict, path: str | Path) -> None:
    """Loads the weights of a checkpoint of a run into `model`, which may be sharded (FSDP2).

    Low-rank adapters are merged into the weights, unless the model has adapters too.

    Raises:
        CheckpointError: a name or a shape does not fit, or a weight is not finite. The model is not changed.
    """
    expected = model.state_dict()
    merge_adapters(checkpoint, expected)
    weights = {name.removeprefix('module.'): value for name, value in checkpoint['state_dict'].items()}
    problem = mismatches(weights, expected)
    if problem:
        raise CheckpointError(f'{path} does not fit the model of this config.\n{problem}'
                              'Pass the config that the checkpoint was trained with (it is in its work directory).')
    check_finite(weights, path)
    model.load_state_dict({name: scatter_shard(value, expected[name]) for name, value in weights.items()})
