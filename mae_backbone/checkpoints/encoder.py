"""Loads pretrained weights of any public layout into a ViT. Refuses weights that do not fit, and logs a report."""
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import resample_patch_embed
from torch import Tensor

from mae_backbone.checkpoints.adapters import SUFFIXES
from mae_backbone.checkpoints.channels import EMBEDDING_RULE, adapt_embedding
from mae_backbone.checkpoints.layouts.rules import Step, wide
from mae_backbone.checkpoints.positions import resize_positions
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.report import LoadReport, say
from mae_backbone.checkpoints.safetensors_file import StoredTensor
from mae_backbone.checkpoints.source import Source, open_source
from mae_backbone.checkpoints.state_dicts import is_finite, mismatches, not_finite
from mae_backbone.checkpoints.unseen import check_activation, check_heads, notes_of
from mae_backbone.core.relative_bias import EXTRA, resized
from mae_backbone.core.vit import ViT

# Parameters that a checkpoint may lack. Pretrained weights have no relative positions, whose tables start at zero.
_NEW_TABLES = ('.rel_pos_h', '.rel_pos_w', '.relative_position_bias_table')
# They have no residual convolutions at the end of blocks either, which start as the identity.
_NEW_CONVOLUTION = tuple(f'.residual.{name}' for i in (1, 2, 3) for name in (
    f'conv{i}.weight', f'norm{i}.weight', f'norm{i}.bias'))
_PATCHES = 'patch_embed.proj.weight'
_MOVED = ': the same number of patches in another grid'


def load_encoder(model: ViT, path: str | Path, *, key: str | None = None, heads: int | None = None,
                 adapt_channels: bool = False) -> LoadReport:
    """Loads the encoder in a file or a folder into `model`.

    Reads every layout of `checkpoints.layouts`: checkpoints of `mae-backbone pretrain` and `mae-backbone train`, of the
    public MAE code, timm, Hugging Face, mmpretrain, mmseg, mmdet, detectron2, SAM, torchvision, lightly, DINO, MoCo v3
    and I-JEPA. The format is `.pth`, `.bin`, `.pkl` or `.safetensors`, or a folder with a `config.json`. Position
    embeddings for another grid, and patch embeddings for another patch size, are resized. A report is logged.

    Args:
        model: model, changed in place. It is not changed if an error is raised.
        path: path of the file or folder.
        key: selects the weights if the file has several: a top-level key of the file, 'student' or 'teacher'. None
            selects the averaged weights if there are any.
        heads: number of attention heads of the weights, if the file does not state it.
        adapt_channels: adapt a patch embedding for another number of channels (`channels`) instead of refusing it.

    Returns:
        The report.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, has no ViT or several ViTs, or has weights of another architecture or
            weights that are not finite. The model is not changed.
    """
    report = load_source(model, open_source(path, key), heads=heads, adapt_channels=adapt_channels)
    say(report)
    return report


def load_source(model: ViT, source: Source, *, heads: int | None = None, adapt_channels: bool = False) -> LoadReport:
    """Loads the ViT of a `Source` like `load_encoder`, but does not log the report."""
    report = LoadReport(str(source.path), source.layout.title, source.prefix, choice=source.choice)
    check_activation(source)
    expected = {name: value for name, value in model.state_dict().items() if not name.endswith(SUFFIXES)}
    steps = _steps(source, model, expected, report)
    # Tensors of a large file are checked one by one without keeping them, and read again when they are copied into the
    # model. Therefore the file is never in memory as a whole.
    checked = {}
    bad = []
    for name in steps:
        stored = _stored(name, steps[name], source, expected, model)
        if stored is not None:
            checked[name] = torch.empty(stored.shape, dtype=stored.dtype, device='meta')
            finite = stored.is_finite()
        else:
            value, how = _fitted(name, steps[name], source, expected, model, adapt_channels)
            if how:
                report.resized[name] = how
            finite = is_finite(value)
            checked[name] = value.to('meta') if source.weights.lazy else value
        if not finite:
            bad.append(name)
    if bad:
        raise CheckpointError(not_finite(source.path, bad, len(steps)))
    _check_architecture(checked, expected, source)
    check_heads(model, source, heads, checked, report)
    has_tables = any(name.endswith(_NEW_TABLES) for name in checked)  # then all blocks must have them
    problem = mismatches(checked, expected, may_miss=(() if has_tables else _NEW_TABLES) + _NEW_CONVOLUTION)
    if problem:
        raise CheckpointError(f'{source.path} ({source.layout.title}) does not fit the model.\n{problem}'
                              + _advice(checked, expected))
    with torch.no_grad():
        for name, step in steps.items():
            stored = _stored(name, step, source, expected, model)
            if stored is not None and _same_memory(expected[name], stored.dtype):
                stored.read_into(expected[name])
            else:
                value = (_fitted(name, step, source, expected, model, adapt_channels)[0] if source.weights.lazy
                         else checked.pop(name))
                expected[name].copy_(value)
    used = {name for step in steps.values() for name in step.names}
    report.num_mapped, report.num_read = len(steps), len(used)
    report.left_out = sorted(source.weights.keys() - used)
    report.missing = sorted(expected.keys() - steps.keys())
    notes_of(model, source, report)
    if source.facts.image_size is None and report.resized.get('pos_embed', '').endswith(_MOVED):
        report.warnings.append('pos_embed: the file does not state the grid of its positions, a square is assumed. If '
                               'they are for the grid of the model, load a checkpoint with its config')
    return report


def _steps(source: Source, model: ViT, expected: Mapping[str, Tensor], report: LoadReport) -> dict[str, Step]:
    """Returns the steps for the tensors that the model needs."""
    steps = {name: step for name, step in source.plan.encoder.items() if not _is_unused(name, model)}
    norm = {f'norm.{part}': source.plan.head[f'fc_norm.{part}'] for part in ('weight', 'bias')
            if f'norm.{part}' in expected.keys() - steps.keys() and f'fc_norm.{part}' in source.plan.head}
    if norm:
        report.notes.append('fc_norm, which the classifier of the file has after its pooling, goes before the pooling '
                            'here')
    return steps | norm


def _is_unused(name: str, model: ViT) -> bool:
    return ((name == 'cls_token' and model.cls_token is None)
            or (name.startswith('norm.') and not isinstance(model.norm, torch.nn.LayerNorm)))


def _stored(name: str, step: Step, source: Source, expected: Mapping[str, Tensor], model: ViT) -> StoredTensor | None:
    """Returns the tensor of a step in the file if it fits the model without a change, otherwise None."""
    stored = source.weights.stored(step.names[0]) if step.join is None else None
    fits = stored is not None and name in expected and _fits(name, stored.shape, source, expected, model)
    return stored if fits else None


def _fits(name: str, shape: tuple[int, ...], source: Source, expected: Mapping[str, Tensor], model: ViT) -> bool:
    """True if a tensor of this shape is loaded without a change.

    Position embeddings of the same shape may be stored for another grid with the same number of patches.
    """
    if shape != expected[name].shape:
        return False
    return name != 'pos_embed' or source.grid(shape[1] - 1) in (None, model.grid)


def _same_memory(tensor: Tensor, dtype: torch.dtype) -> bool:
    """True if bytes of a file with elements of `dtype` can be read directly into the memory of a tensor."""
    return tensor.dtype == dtype != torch.bool and tensor.device.type == 'cpu' and tensor.is_contiguous()


def _fitted(name: str, step: Step, source: Source, expected: Mapping[str, Tensor], model: ViT,
            adapt_channels: bool) -> tuple[Tensor, str]:
    """Returns the tensor of a step, resized to the size in the model, and a text about the change ('' if none).

    A tensor that cannot be resized is returned unchanged. Its shape is then reported as an error.
    """
    stored = step(source.weights)
    if name not in expected or not stored.numel() or not stored.is_floating_point() or (
            _fits(name, stored.shape, source, expected, model)):
        return stored, ''
    stored = wide(stored)  # torch does not interpolate float8
    if adapt_channels and name == _PATCHES and stored.ndim == 4 and stored.shape[1] != model.in_channels:
        adapted, how = adapt_embedding(stored, model.in_channels), ''
        if adapted.shape != expected[name].shape:
            adapted, how = _resized(name, adapted, expected[name], model, source)
        return adapted, f'from {stored.shape[1]} to {model.in_channels} channels ({EMBEDDING_RULE})' + (
            f', {how}' if how else '')
    return _resized(name, stored, expected[name], model, source)


def _resized(name: str, stored: Tensor, expected: Tensor, model: ViT, source: Source) -> tuple[Tensor, str]:
    """Resizes position embeddings, tables of relative positions and patch embeddings to their size in the model."""
    if name == 'pos_embed' and stored.ndim == 3 and stored.shape[2] == expected.shape[2]:
        place = source.grid(stored.shape[1] - 1)
        if place is None:
            return stored, ''  # not square and not stated: its grid is unknown
        return resize_positions(stored, place, model.grid), resize_text(place, model.grid)
    if (name == _PATCHES and stored.ndim == 4 and stored.shape[:2] == expected.shape[:2]
            and stored.shape[2] == stored.shape[3] and _near(stored.shape[2], expected.shape[2])):
        how = (f'from {stored.shape[2]} to {expected.shape[2]} pixels a side: a patch that is enlarged bicubically '
               'gives the token that it gave before')
        return resample_patch_embed(stored.float(), list(expected.shape[2:]), antialias=False).to(stored.dtype), how
    if name.endswith('.relative_position_bias_table') and stored.ndim == 2 and stored.shape[1] == expected.shape[1]:
        owner = model.get_submodule(name.rpartition('.')[0])
        grid: tuple[int, int] = getattr(owner, 'bias_size', None) or owner.grid  # type: ignore[assignment]  # of a module
        side = round((max(1, len(stored) - EXTRA) ** 0.5 + 1) / 2)
        if (2 * side - 1) ** 2 + EXTRA != len(stored):
            return stored, ''  # not square: its grid is unknown
        return resized(stored, (side, side), grid), f'from {side}x{side} to {grid[0]}x{grid[1]} patches (bicubic)'
    if name.endswith(_NEW_TABLES) and stored.ndim == 2 and stored.shape[1] == expected.shape[1]:
        return (F.interpolate(stored.T[None], size=len(expected), mode='linear')[0].T,
                f'from {len(stored)} to {len(expected)} distances (linear)')
    return stored, ''


def resize_text(source: tuple[int, int], target: tuple[int, int]) -> str:
    """Returns the text of the report about position embeddings that are interpolated to another grid."""
    same_number = source[0] * source[1] == target[0] * target[1]
    return (f'from {source[0]}x{source[1]} to {target[0]}x{target[1]} patches (bicubic)'
            + _MOVED * same_number)


class _Size(NamedTuple):
    """Sizes of a ViT that a config sets."""

    width: int
    blocks: int
    channels: int
    patch_size: int


def _check_architecture(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: Source) -> None:
    """Raises CheckpointError if the weights have another architecture. The message names settings of the config."""
    if _PATCHES not in weights or weights[_PATCHES].ndim != 4:
        return  # `mismatches` reports names and shapes
    stored, wanted = _size(weights), _size(expected)
    if _near(stored.patch_size, wanted.patch_size):
        stored = stored._replace(patch_size=wanted.patch_size)
    if stored != wanted:
        words = ('width', 'blocks', 'channels', 'patch size')
        raise CheckpointError(f'{source.path} ({source.layout.title}) holds another architecture: '
                              + ', '.join(f'{word} {a} (the model has {b})' if a != b else f'{word} {a}'
                                          for word, a, b in zip(words, stored, wanted, strict=True))
                              + ': set arch, patch_size and in_channels of the model as in the checkpoint')


def _size(weights: Mapping[str, Tensor]) -> _Size:
    width, channels, patch_size, _ = weights[_PATCHES].shape
    return _Size(width, len({name.split('.')[1] for name in weights if name.startswith('blocks.')}), channels,
                 patch_size)


def _near(stored: int, expected: int) -> bool:
    """True if a patch size is similar enough to be resized, such as 14 pixels (ViT-H of MAE) to 16 pixels (ViTDet)."""
    return expected / 2 < stored < expected * 2


def _advice(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Returns advice for an error about names and shapes that do not fit."""
    if 'cls_token' in expected.keys() - weights.keys():
        return ('The file has no class token (I-JEPA, SAM and detectors have none): set class_token=False, as '
                'ViTBackbone does by default, or pass weights with one.')
    if any(name.endswith(_NEW_TABLES) for name in weights.keys() - expected.keys()):
        beit = any(name.endswith('_bias_table') for name in weights.keys() - expected.keys())
        return ("The weights have relative positions, the model has none: set relative_bias='block' of the backbone "
                "('shared' for rel_pos_bias)." if beit else
                'The weights have relative positions, the model has none: set relative_positions=True of the backbone, '
                'and the windows that the weights were trained with.')
    return ('Use the config that the checkpoint was trained with, or a checkpoint of this model. A ViT with other '
            "parts goes into type='mae_backbone.TimmViT'.")
