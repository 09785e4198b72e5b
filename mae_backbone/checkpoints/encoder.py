"""Pretrained weights into a ViT: safe to read, loud about every mismatch."""
import argparse
import logging
import re
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from mae_backbone.checkpoints.safe_pickle import NotAnArrayError, load_arrays
from mae_backbone.core.relative_bias import EXTRA, resized
from mae_backbone.core.vit import ViT

# Names inside of an encoder's prefix that a ViT may have no use for: the decoder and the heads of public MAE files.
_UNUSED = ('mask_token', 'decoder_', 'head.', 'fc_norm.')
# Names that start at zero where a checkpoint has none: pretraining knows no relative positions,
_NEW = ('.rel_pos_h', '.rel_pos_w', '.relative_position_bias_table')
# and no convolutions at the end of blocks, which start as the identity.
_NEW_CONVOLUTION = tuple(f'.residual.{part}' for i in (1, 2, 3) for part in (
    f'conv{i}.weight', f'norm{i}.weight', f'norm{i}.bias'))


# What torch.load raises for bytes that no torch.save wrote.
_DAMAGED = (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError,
            AssertionError, OverflowError, MemoryError, RecursionError, struct.error)


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another model."""


def load_encoder(model: ViT, path: str | Path) -> None:
    """Puts the encoder's weights of the file at `path` into `model`.

    Understands what tools/pretrain.py and tools/train.py write, public MAE files (`.pth` with `model`), timm's state
    dicts, safetensors of any of them, and `.pkl` files of detectron2. Positions stored for another grid, and patches of
    another size, are resized, and that is logged.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is not a checkpoint, holds no or several ViTs, or one of another architecture.
    """
    stored = read_weights(path)
    weights, prefix = encoder_weights(stored, path)
    wanted = model.state_dict()
    weights |= _norm_of_classifier(weights, stored, wanted)
    _check_architecture(weights, wanted, path)
    for name in sorted(weights.keys() & wanted.keys()):
        weights[name] = _fit(name, weights[name], wanted[name], model)

    unused = {name for name in weights.keys() - wanted.keys() if _is_unused(name, model)}
    problem = mismatches({name: weights[name] for name in weights.keys() - unused}, wanted,
                         may_miss=_NEW + _NEW_CONVOLUTION)
    if problem:
        raise CheckpointError(f'{path} does not fit the model.\n{problem}'
                              'Use the config that the checkpoint was trained with, or a checkpoint of this model.')
    model.load_state_dict({name: weights[name] for name in weights.keys() & wanted.keys()}, strict=False)
    new = sum(name.endswith(_NEW) for name in wanted.keys() - weights.keys())
    _log(f'{path}: {len(weights.keys() & wanted.keys())} encoder tensors loaded (prefix {prefix!r}), '
         f'{len(stored) - len(weights.keys() & wanted.keys())} others not needed'
         + (f', {new} tables of relative positions start at zero' if new else ''))


def _norm_of_classifier(weights: dict[str, Tensor], stored: dict[str, Tensor],
                        wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The last norm out of a classifier that pools the mean: it has one after the pooling alone, in `fc_norm`."""
    found = {f'norm.{part}': stored[f'fc_norm.{part}'] for part in ('weight', 'bias')
             if f'norm.{part}' in wanted.keys() - weights.keys() and f'fc_norm.{part}' in stored}
    if found:
        _log('fc_norm, which the classifier of the file has after its pooling, goes before the pooling here')
    return found


def mismatches(weights: dict[str, Tensor], wanted: dict[str, Tensor], *, may_miss: tuple[str, ...] = ()) -> str:
    """What keeps `weights` from fitting `wanted`, a line for each kind; empty where they fit.

    Names that end in one of `may_miss` need not be there.
    """
    left = weights.keys() - wanted.keys()
    missing = {name for name in wanted.keys() - weights.keys() if not name.endswith(may_miss)}
    wrong = [f'{name}: {tuple(weights[name].shape)} in the file, {tuple(wanted[name].shape)} in the model'
             for name in weights.keys() & wanted.keys() if weights[name].shape != wanted[name].shape]
    return (_listing('in the file, not in the model', left) + _listing('in the model, not in the file', missing)
            + _listing('of another shape', wrong))


def encoder_weights(stored: dict[str, Tensor], path: str | Path) -> tuple[dict[str, Tensor], str]:
    """Names and tensors of a whole file -> those of the one ViT in it without their prefix, and that prefix.

    Raises:
        CheckpointError: there is no ViT or more than one.
    """
    anchor = 'patch_embed.proj.weight'
    prefixes = [name.removesuffix(anchor) for name in stored if name == anchor or name.endswith('.' + anchor)]
    if len(prefixes) != 1:
        found = f'{len(prefixes)} ViTs, under {prefixes}' if prefixes else f'no ViT, but {_few(stored)}'
        raise CheckpointError(f'{path} holds {found}; wanted exactly one {anchor}: pass a checkpoint of '
                              'tools/pretrain.py, of tools/train.py, or of the public MAE code')
    prefix = prefixes[0]
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}, prefix


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The names and tensors of a checkpoint file, out of `state_dict`, `model` or the top level, on the CPU."""
    return weights_in(read_content(path), path)


def read_content(path: str | Path) -> object:
    """All that a checkpoint file of any kind holds, on the CPU."""
    path = Path(path)
    readers: dict[str, Callable] = {'.safetensors': _read_safetensors, '.pkl': read_arrays}
    return readers.get(path.suffix, read_checkpoint)(path)


def weights_in(content: object, path: str | Path) -> dict[str, Tensor]:
    """The names and tensors in the content of the file at `path`; raises CheckpointError where there are none."""
    for key in ('state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f'{path} holds no names with tensors but a {type(content).__name__}: pass a checkpoint')
    weights = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name.removeprefix('module.'): value for name, value in weights.items()}


def read_checkpoint(path: str | Path, *, allow: tuple | None = None) -> object:
    """Reads a torch checkpoint without running code of it; tensors land on the CPU.

    Args:
        path: a file that `torch.save` wrote.
        allow: classes and functions that the file may name, as for `torch.serialization.safe_globals`. None: what
            MMEngine's log history and the public MAE files name is read as inert data, for who wants weights alone.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, is no checkpoint, or names code that is not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist: check the path' + _neighbors(path))
    damaged = f'{path} is not a checkpoint of torch, or is damaged or cut off: check the path, or copy the file again'
    try:
        with torch.serialization.safe_globals(_harmless() if allow is None else list(allow)):
            return torch.load(path, map_location='cpu', weights_only=True)
    except UnpicklingError as error:
        # The rest of torch's message advises to switch the safety off.
        code = re.search(r'(?:GLOBAL |safe_globals\(\[)([\w.]+)', str(error))
        if code is None:
            raise CheckpointError(damaged) from error
        raise CheckpointError(f'{path} names code to run ({code[1]}), which this program refuses to do: save its '
                              'state_dict alone, or convert it to safetensors where you trust it') from error
    except _DAMAGED as error:
        raise CheckpointError(damaged) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist: check the path' + _neighbors(path))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f'{path} cannot be read as safetensors ({_first_line(error)}): copy it again') from error


def read_arrays(path: str | Path) -> dict:
    """A pickle of detectron2's model zoo, dicts of names and NumPy arrays, which come as tensors; runs no code of it.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, is no pickle, or holds something else than arrays, by its name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist: check the path' + _neighbors(path))
    try:
        with path.open('rb') as file:
            return load_arrays(file)
    except NotAnArrayError as error:
        raise CheckpointError(f'{path} holds {error}, which might run code and is not looked at: wanted a pickle of '
                              'NumPy arrays of numbers alone, as in the model zoo of detectron2') from error
    except (UnpicklingError, *_DAMAGED) as error:
        raise CheckpointError(f'{path} is not a pickle, or is damaged or cut off: check the path, or copy the file '
                              'again') from error


class _Inert:
    """Takes the place of an object of a checkpoint that weights do not need."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _inert(*_: object) -> _Inert:
    """Takes the place of a call that a checkpoint asks for."""
    return _Inert()


def _harmless() -> list:
    """What is named by public MAE files (the options of the run) and by MMEngine's (its log history)."""
    return [argparse.Namespace, slice,
            (_Inert, 'mmengine.logging.history_buffer.HistoryBuffer'), (_inert, 'builtins.getattr'),
            (_inert, 'numpy._core.multiarray.scalar'), (_inert, 'numpy.core.multiarray.scalar'),
            (_inert, 'numpy._core.multiarray._reconstruct'), (_inert, 'numpy.core.multiarray._reconstruct'),
            (_Inert, 'numpy.ndarray'), (_Inert, 'numpy.dtype')]


def _fit(name: str, stored: Tensor, wanted: Tensor, model: ViT) -> Tensor:
    """Resizes positions to the grid of the model; anything else stays as it is."""
    if stored.shape == wanted.shape:
        return stored
    if name == 'pos_embed' and stored.ndim == 3 and stored.shape[2] == wanted.shape[2]:
        side = round((stored.shape[1] - 1) ** 0.5)
        if side * side + 1 != stored.shape[1]:
            return stored  # not square: its grid is unknown, and the shapes are reported
        _log(f'pos_embed resized from {side}x{side} to {model.grid[0]}x{model.grid[1]} patches (bicubic)')
        return resample_abs_pos_embed(stored, list(model.grid), [side, side], num_prefix_tokens=1,
                                      interpolation='bicubic', antialias=False)
    if (name == 'patch_embed.proj.weight' and stored.ndim == 4 and stored.shape[:2] == wanted.shape[:2]
            and stored.shape[2] == stored.shape[3]):
        _log(f'patches resized from {tuple(stored.shape[2:])} to {tuple(wanted.shape[2:])} pixels: a patch that is '
             'enlarged bicubically gives the token that it gave before')
        return resample_patch_embed(stored.float(), list(wanted.shape[2:]), antialias=False).to(stored.dtype)
    if name.endswith('.relative_position_bias_table') and stored.ndim == 2 and stored.shape[1] == wanted.shape[1]:
        part = model.get_submodule(name.rpartition('.')[0])
        side, grid = round(((len(stored) - EXTRA) ** 0.5 + 1) / 2), getattr(part, 'bias_size', None) or part.grid
        if (2 * side - 1) ** 2 + EXTRA != len(stored):
            return stored  # not square: its grid is unknown, and the shapes are reported
        _log(f'{name} resized from {side}x{side} to {grid[0]}x{grid[1]} patches (bicubic)')
        return resized(stored, (side, side), grid)
    if name.endswith(_NEW) and stored.ndim == 2 and stored.shape[1] == wanted.shape[1]:
        _log(f'{name} resized from {len(stored)} to {len(wanted)} distances (linear)')
        return F.interpolate(stored.T[None], size=len(wanted), mode='linear')[0].T
    return stored


def _check_architecture(weights: dict[str, Tensor], wanted: dict[str, Tensor], path: str | Path) -> None:
    """Says the commonest mismatch in the words of the config rather than as a list of shapes."""
    if weights['patch_embed.proj.weight'].ndim != 4:
        return  # the shapes are reported
    came, want = _architecture(weights), _architecture(wanted)
    if want[3] / 2 < came[3] < want[3] * 2:  # resized, as from the 14 pixels of MAE's huge model to the 16 of ViTDet
        came = (*came[:3], want[3])
    if came != want:
        words = ('width', 'blocks', 'channels', 'patch size')
        raise CheckpointError(f'{path} holds another architecture: '
                              + ', '.join(f'{word} {a} (the model has {b})' if a != b else f'{word} {a}'
                                          for word, a, b in zip(words, came, want, strict=True))
                              + ': set arch, patch_size and in_channels of the model to those of the checkpoint')


def _architecture(weights: dict[str, Tensor]) -> tuple[int, int, int, int]:
    """Width, number of blocks, channels, patch size."""
    width, channels, patch_size, _ = weights['patch_embed.proj.weight'].shape
    blocks = {name.split('.')[1] for name in weights if name.startswith('blocks.')}
    return width, len(blocks), channels, patch_size


def _is_unused(name: str, model: ViT) -> bool:
    return (name.startswith(_UNUSED) or name.endswith('.relative_position_index')
            or (name == 'cls_token' and model.cls_token is None)
            or (name.startswith('norm.') and not isinstance(model.norm, torch.nn.LayerNorm)))


def _listing(title: str, names: Iterable[str]) -> str:
    names = sorted(names)
    return f'  {len(names)} {title}: {_few(names)}\n' if names else ''


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ', '.join(names[:8]) + (f' and {len(names) - 8} more' if len(names) > 8 else '')


def _neighbors(path: Path) -> str:
    """Checkpoints that lie where the wanted one does not."""
    folder = path if path.is_dir() else path.parent
    found = sorted(file.name for file in folder.glob('*.pth')) if folder.is_dir() else []
    return f'; {folder} holds {", ".join(found[:5])}' if found else ''


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _log(message: str) -> None:
    # MMEngine configures a logger of its own in a run; without it this is the package's.
    logging.getLogger('mae_backbone').info(message)
