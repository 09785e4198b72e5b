"""Reads a checkpoint of any known layout as a `StoredModel`: weights, architecture, origin and license."""
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.conversion.build import problems_of_weights
from mae_backbone.checkpoints.conversion.files import metadata_in, sha256_of
from mae_backbone.checkpoints.conversion.licenses import License, find_license
from mae_backbone.checkpoints.conversion.model import Architecture, Origin, StoredModel, part_of
from mae_backbone.checkpoints.conversion.stated import stated_by_file, training_in
from mae_backbone.checkpoints.conversion.transfer_results import transfer_results
from mae_backbone.checkpoints.detectron2 import from_detectron2
from mae_backbone.checkpoints.layouts.layout import Names, prefixes_of
from mae_backbone.checkpoints.layouts.rules import Step
from mae_backbone.checkpoints.model_index import resolve
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import Source, find_vit
from mae_backbone.checkpoints.state_dicts import check_finite
from mae_backbone.checkpoints.unseen import check_activation, heads_of_tables, usual_heads
from mae_backbone.checkpoints.weight_files import open_weights
from mae_backbone.core.vit import ARCHS, Arch

# Size of the decoder in appendix A.1 of the MAE paper and in all public weights.
_PAPER_DECODER = Arch(512, 8, 16)
# Names of the head of a linear probe in the public MAE code: a Sequential of BatchNorm1d and a linear layer.
_PROBE = {'head.0.running_mean': 'head_norm.running_mean', 'head.0.running_var': 'head_norm.running_var',
          'head.0.num_batches_tracked': 'head_norm.num_batches_tracked', 'head.1.weight': 'head.weight',
          'head.1.bias': 'head.bias'}


def read_model(path: str | Path, *, key: str | None = None, heads: int | None = None, decoder_heads: int | None = None,
               license: str | None = None) -> StoredModel:
    """Reads the model in a checkpoint.

    Args:
        path: file or folder in any layout that `load_encoder` reads, or a name of public weights.
        key: selects the weights if the file has several sets, as in `load_encoder`.
        heads: number of attention heads of the encoder, for files that do not state it.
        decoder_heads: number of attention heads of the decoder of a MAE, for files that do not state it.
        license: license of the weights; None to find it with `find_license`.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file cannot be read, has no ViT, does not state a number of heads that is needed, or states
            another number than `heads` or `decoder_heads`.
    """
    path = resolve(path)
    file = open_weights(path, key)
    source = find_vit(file, key)
    check_activation(source)
    weights, others = _sorted(source)
    check_finite(weights | others, path)
    metadata, config = metadata_in(path, file.content), config_in(file.content)
    stated = stated_by_file(file, source.facts, config, metadata)
    notes = [note for note in (source.choice, source.layout.remark) if note]
    if source.facts.norm_eps not in (None, 1e-6):
        notes.append(f'LayerNorm: epsilon {source.facts.norm_eps:g} in the file, 1e-06 in the result; features of '
                     'trained weights change by less than 1e-4')
    architecture = _architecture(weights, stated, heads, decoder_heads, path, notes)
    found = License(license, '--license') if license else find_license(path, metadata, config)
    origin = Origin(path.name, sha256_of(path), source.layout.name, found.name, found.source,
                    _dict(metadata.get('origin')) or _dict(metadata.get('source')))
    model = StoredModel(weights, architecture, origin, others, notes, training_in(file.content, config, metadata),
                        transfer_results(path))
    problem = problems_of_weights(model)
    if problem:
        raise CheckpointError(f'{path} holds no complete ViT of this package ("the model"):\n{problem}'
                              'Copy the file again if it was cut. Other kinds of ViT cannot be converted')
    return model


def _sorted(source: Source) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns the weights of the ViT with our names, and all other weights with the names in the file."""
    plan, stored = source.plan, source.weights
    steps = {**plan.encoder, **plan.decoder, **plan.head, **_other_parts_of_head(source)}
    used = {name for step in steps.values() for name in step.names} | {source.prefix + name for name in plan.ignored}
    # Prefixes of other ViTs in the file, such as a teacher. Their weights are not converted.
    twins = tuple(prefix for prefix in prefixes_of(source.layout.anchor, stored) if prefix != source.prefix)
    others = {name: stored[name] for name in stored if name not in used and not (twins and name.startswith(twins))}
    if source.layout.name == 'detectron2':  # the other parts of a detector get the names of mmdet
        others = from_detectron2(others)
    return {name: step(stored) for name, step in steps.items()}, others


def _dict(value: object) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _other_parts_of_head(source: Source) -> dict[str, Step]:
    """Returns steps for parts of a head that layouts lack: BatchNorm of a linear probe, pooling of an attentive one."""
    ours = source.layout.name == 'ours'
    root = source.prefix.removesuffix(source.layout.classifier_prefix) if ours else source.prefix
    names = Names.split(source.weights, root).inside
    if ours:
        return {name: Step((root + name,)) for name in names if part_of(name) == 'head'}
    if 'head.0.running_mean' in names:
        return {here: Step((root + name,)) for name, here in _PROBE.items() if name in names}
    return {}


def _architecture(weights: Mapping[str, Tensor], stated: dict[str, Any], heads: int | None, decoder_heads: int | None,
                  path: Path, notes: list[str]) -> Architecture:
    """Returns the architecture, from the shapes of the weights and the values that the file and the user state."""
    patch, positions = weights['patch_embed.proj.weight'], weights.get('pos_embed')
    depth = len({name.split('.')[1] for name in weights if name.startswith('blocks.')})
    if patch.ndim != 4 or patch.shape[2] != patch.shape[3] or positions is None or positions.ndim != 3 or not depth:
        raise CheckpointError(f'{path} has no square patches, no pos_embed or no blocks: pass a checkpoint of a ViT')
    width, patch_size = len(patch), patch.shape[3]
    known = {name: stated[name] for name in (item.name for item in fields(Architecture)) if name in stated}
    known |= dict(width=width, depth=depth, patch_size=patch_size, in_channels=patch.shape[1],
                  grid=_grid(positions, stated, patch_size, path), class_token='cls_token' in weights,
                  final_norm='norm.weight' in weights)
    stated_heads = heads_of_tables(weights, width) or stated.get('heads')
    known['heads'] = _heads(width, depth, heads, stated_heads, path, notes)
    if 'decoder_embed.weight' in weights:
        known['decoder'] = _decoder(weights, decoder_heads, stated.get('decoder'), path)
    else:
        known['decoder'] = None
    if 'head.weight' in weights:
        default = 'attention' if 'attention.latent' in weights else 'mean' if 'fc_norm.weight' in weights else 'class'
        known['pool'] = stated.get('pool') or default
        if len(known.get('classes', ())) != len(weights['head.weight']):
            known['classes'] = ()
    else:
        known['pool'], known['classes'] = None, ()
    if known.get('window_size') is None and 'blocks.0.attn.rel_pos_h' in weights:
        known |= _windows(weights, depth)
    return Architecture(**known)


def _heads(width: int, depth: int, asked: int | None, stated: int | None, path: Path, notes: list[str]) -> int:
    """Returns the number of heads: given by the user (`asked`), stated by the file, or usual for this size.

    Raises:
        CheckpointError: the numbers contradict each other, do not divide the width, or the number is unknown.
    """
    if asked is not None and stated is not None and asked != stated:
        raise CheckpointError(f'--heads {asked}, but {path} says that it has {stated}: leave --heads out')
    number = asked or stated or usual_heads(width, depth)
    if number is None:
        raise CheckpointError(f'{path} does not say how many heads its attention has, and its width of {width} is no '
                              'multiple of 64: pass --heads')
    if asked is None and stated is None:
        named = any((arch.width, arch.depth) == (width, depth) for arch in ARCHS.values())
        notes.append(f'heads: {number}, ' + ('as every architecture of this size has' if named else
                                             'one for 64 channels') + '; the file does not say it (--heads)')
    if number < 1 or width % number:
        raise CheckpointError(f'{path} has a width of {width}, which cannot be split over {number} heads: pass --heads')
    return number


def _decoder(weights: Mapping[str, Tensor], asked: int | None, stated: Any, path: Path) -> Arch:
    """Returns the size of the decoder of a MAE. Raises CheckpointError if its number of heads is unknown or wrong."""
    width = len(weights['decoder_embed.weight'])
    depth = len({name.split('.')[1] for name in weights if name.startswith('decoder_blocks.')})
    known = stated.heads if isinstance(stated, Arch) else None
    if asked is not None and known is not None and asked != known:
        raise CheckpointError(f'--decoder-heads {asked}, but {path} says that it has {known}: leave it out')
    number = asked or known
    if number is None and (width, depth) == (_PAPER_DECODER.width, _PAPER_DECODER.depth):
        number = _PAPER_DECODER.heads
    if number is None or number < 1 or width % number:
        raise CheckpointError(f'{path} does not say how many heads its decoder of {depth} blocks and a width of '
                              f'{width} has: pass --decoder-heads, or --encoder to leave the decoder out')
    return Arch(width, depth, number)


def _grid(positions: Tensor, stated: Mapping[str, Any], patch_size: int, path: Path) -> tuple[int, int]:
    """Returns the grid (h, w) of positions (1, 1 + L, D): the grid that the file states, or a square grid.

    Raises:
        CheckpointError: the file does not state the grid, and L is not a square number.
    """
    number = positions.shape[1] - 1
    if 'grid' in stated:
        grid = tuple(int(value) for value in stated['grid'])
    else:
        size = stated.get('image_size', (0, 0))
        grid = (size[0] // patch_size, size[1] // patch_size)
    if len(grid) == 2 and grid[0] * grid[1] == number:
        return grid[0], grid[1]
    side = round(number**0.5)
    if side * side != number or not side:
        raise CheckpointError(f'{path} has {number} positions, which are no square grid, and does not say its image '
                              'size: convert a checkpoint of `mae-backbone train` or `pretrain`, which does')
    return side, side


def _windows(weights: Mapping[str, Tensor], depth: int) -> dict[str, Any]:
    """Returns window size and global blocks, determined from the sizes of the tables of relative positions."""
    sides = [(len(weights[f'blocks.{i}.attn.rel_pos_h']) + 1) // 2 for i in range(depth)]
    if len(set(sides)) != 2:
        return dict(window_size=None)
    return dict(window_size=min(sides), global_blocks=tuple(i for i in range(depth) if sides[i] == max(sides)))
