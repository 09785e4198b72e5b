"""Loads pretrained weights into a ViT. Resizes position and patch embeddings; refuses other weights that do not fit."""
import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.state_dicts import check_finite, few, mismatches, read_weights
from mae_backbone.core.relative_bias import EXTRA, resized
from mae_backbone.core.vit import ViT

# Names inside the prefix of an encoder that a ViT may have no use for: the decoder and the heads of public MAE files.
_UNUSED = ('mask_token', 'decoder_', 'head.', 'fc_norm.')
# Names that start at zero if a checkpoint lacks them: there are no relative positions in pretraining,
_NEW_TABLES = ('.rel_pos_h', '.rel_pos_w', '.relative_position_bias_table')
# and no convolutions at the end of blocks, which start as the identity.
_NEW_CONVOLUTION = tuple(f'.residual.{name}' for i in (1, 2, 3) for name in (
    f'conv{i}.weight', f'norm{i}.weight', f'norm{i}.bias'))


def load_encoder(model: ViT, path: str | Path) -> None:
    """Loads the encoder in the file at `path` into `model`.

    Reads what `mae-backbone pretrain` and `mae-backbone train` write, public MAE files (`.pth` with `model`), timm's
    state dicts, safetensors of any of them, and `.pkl` files of detectron2. Position embeddings stored for another
    grid, and patch embeddings of another patch size, are resized. Both are logged.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, holds no ViT or several ones, or one of another architecture, or
            weights that are not finite. The model is not changed.
    """
    stored = read_weights(path)
    weights, prefix = encoder_weights(stored, path)
    expected = model.state_dict()
    weights |= _norm_of_classifier(weights, stored, expected)
    unused = {name for name in weights.keys() - expected.keys() if _is_unused(name, model)}
    weights = {name: value for name, value in weights.items() if name not in unused}
    _check_architecture(weights, expected, path)
    for name in sorted(weights.keys() & expected.keys()):
        weights[name] = _fit(name, weights[name], expected[name], model)
    problem = mismatches(weights, expected, may_miss=_NEW_TABLES + _NEW_CONVOLUTION)
    if problem:
        raise CheckpointError(f'{path} does not fit the model.\n{problem}'
                              'Use the config that the checkpoint was trained with, or a checkpoint of this model.')
    model.load_state_dict(weights, strict=False)
    new = sum(name.endswith(_NEW_TABLES) for name in expected.keys() - weights.keys())
    _log(f'{path}: {len(weights)} encoder tensors loaded (prefix {prefix!r}), {len(stored) - len(weights)} others not '
         'needed' + (f', {new} tables of relative positions start at zero' if new else ''))


def encoder_weights(stored: dict[str, Tensor], path: str | Path) -> tuple[dict[str, Tensor], str]:
    """Finds the one ViT among the weights of a file.

    Returns:
        Its names without their prefix, with their tensors; and that prefix.

    Raises:
        CheckpointError: the file has no ViT, or more than one, or a weight is not finite.
    """
    anchor = 'patch_embed.proj.weight'
    prefixes = [name.removesuffix(anchor) for name in stored if name == anchor or name.endswith('.' + anchor)]
    if len(prefixes) != 1:
        content = f'{len(prefixes)} ViTs, under {prefixes}' if prefixes else f'no ViT, but {few(stored)}'
        raise CheckpointError(f'{path} holds {content}; expected exactly one {anchor}: pass a checkpoint of '
                              '`mae-backbone pretrain`, of `mae-backbone train`, or of the public MAE code')
    prefix = prefixes[0]
    weights = {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
    check_finite(weights, path)
    return weights, prefix


def _norm_of_classifier(weights: dict[str, Tensor], stored: dict[str, Tensor],
                        expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The last norm of a classifier that pools the mean: it has none before the pooling, and `fc_norm` after it."""
    norm = {f'norm.{name}': stored[f'fc_norm.{name}'] for name in ('weight', 'bias')
            if f'norm.{name}' in expected.keys() - weights.keys() and f'fc_norm.{name}' in stored}
    if norm:
        _log('fc_norm, which the classifier of the file has after its pooling, goes before the pooling here')
    return norm


def _fit(name: str, stored: Tensor, expected: Tensor, model: ViT) -> Tensor:
    """Resizes position embeddings, tables and patch embeddings to the size of the model.

    What cannot be resized is returned as it is: its shape is then reported with all others.
    """
    if stored.shape == expected.shape or not stored.numel() or not stored.is_floating_point():
        return stored
    if name == 'pos_embed' and stored.ndim == 3 and stored.shape[2] == expected.shape[2]:
        side = round((stored.shape[1] - 1) ** 0.5)
        if side == 0 or side * side + 1 != stored.shape[1]:
            return stored  # not square: its grid is unknown
        _log(f'pos_embed resized from {side}x{side} to {model.grid[0]}x{model.grid[1]} patches (bicubic)')
        return resample_abs_pos_embed(stored, list(model.grid), [side, side], num_prefix_tokens=1,
                                      interpolation='bicubic', antialias=False)
    if (name == 'patch_embed.proj.weight' and stored.ndim == 4 and stored.shape[:2] == expected.shape[:2]
            and stored.shape[2] == stored.shape[3]):
        _log(f'patches resized from {tuple(stored.shape[2:])} to {tuple(expected.shape[2:])} pixels: a patch that is '
             'enlarged bicubically gives the token that it gave before')
        return resample_patch_embed(stored.float(), list(expected.shape[2:]), antialias=False).to(stored.dtype)
    if name.endswith('.relative_position_bias_table') and stored.ndim == 2 and stored.shape[1] == expected.shape[1]:
        owner = model.get_submodule(name.rpartition('.')[0])
        grid: tuple[int, int] = getattr(owner, 'bias_size', None) or owner.grid  # type: ignore[assignment]  # of a module
        side = round((max(1, len(stored) - EXTRA) ** 0.5 + 1) / 2)
        if (2 * side - 1) ** 2 + EXTRA != len(stored):
            return stored  # not square: its grid is unknown
        _log(f'{name} resized from {side}x{side} to {grid[0]}x{grid[1]} patches (bicubic)')
        return resized(stored, (side, side), grid)
    if name.endswith(_NEW_TABLES) and stored.ndim == 2 and stored.shape[1] == expected.shape[1]:
        _log(f'{name} resized from {len(stored)} to {len(expected)} distances (linear)')
        return F.interpolate(stored.T[None], size=len(expected), mode='linear')[0].T
    return stored


def _check_architecture(weights: dict[str, Tensor], expected: dict[str, Tensor], path: str | Path) -> None:
    """Raises CheckpointError for another architecture, in the terms of the config instead of a list of shapes."""
    if weights['patch_embed.proj.weight'].ndim != 4:
        return  # the shapes are reported
    stored, wanted = _architecture(weights), _architecture(expected)
    # Nearby patch sizes are resized, as from the 14 pixels of MAE's huge model to the 16 of ViTDet.
    if wanted[3] / 2 < stored[3] < wanted[3] * 2:
        stored = (*stored[:3], wanted[3])
    if stored != wanted:
        words = ('width', 'blocks', 'channels', 'patch size')
        raise CheckpointError(f'{path} holds another architecture: '
                              + ', '.join(f'{word} {a} (the model has {b})' if a != b else f'{word} {a}'
                                          for word, a, b in zip(words, stored, wanted, strict=True))
                              + ': set arch, patch_size and in_channels of the model as in the checkpoint')


def _architecture(weights: dict[str, Tensor]) -> tuple[int, int, int, int]:
    """Width, number of blocks, channels, patch size."""
    width, channels, patch_size, _ = weights['patch_embed.proj.weight'].shape
    blocks = {name.split('.')[1] for name in weights if name.startswith('blocks.')}
    return width, len(blocks), channels, patch_size


def _is_unused(name: str, model: ViT) -> bool:
    return (name.startswith(_UNUSED) or name.endswith('.relative_position_index')
            or (name == 'cls_token' and model.cls_token is None)
            or (name.startswith('norm.') and not isinstance(model.norm, torch.nn.LayerNorm)))


def _log(message: str) -> None:
    # In a run, MMEngine's Runner adds its handlers to this logger.
    logging.getLogger('mae_backbone').info(message)
