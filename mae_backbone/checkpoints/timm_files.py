"""Loads checkpoint files and local hub folders into Vision Transformers of timm, with the conversions of timm."""
import contextlib
import inspect
import io
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.layers import resample_patch_embed
from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn

from mae_backbone.checkpoints.facts import facts_of
from mae_backbone.checkpoints.model_index import resolve
from mae_backbone.checkpoints.positions import Grid, resize_positions, stored_grid
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.selection import is_asked_for
from mae_backbone.checkpoints.state_dicts import check_finite, few, mismatches
from mae_backbone.checkpoints.weight_files import file_in, open_weights, read_json

_ANCHOR = 'patch_embed.proj.weight'
# Prefixes that are not removed, because timm's conversions expect them: of segment-anything, OpenCLIP with an encoder
# of timm, and EVA-CLIP.
_PREFIXES_OF_TIMM = ('image_encoder.', 'visual.trunk.', 'module.visual.trunk.', 'visual.')
# Parts after the blocks, which a backbone may not have.
HEADS = ('head.', 'head_dist.', 'fc_norm.', 'norm.', 'attn_pool.', 'neck.')


def load_timm(vit: nn.Module, path: str | Path, *, key: str | None = None) -> None:
    """Loads the weights in a file or a local hub folder into a model of timm.

    Reads state dicts with the names of timm, original files that timm converts (DINOv2, DINOv3, DeiT III, OpenAI's CLIP
    as a state dict, OpenCLIP, SigLIP, EVA-02, BEiT, segment-anything), and checkpoints of `mae-backbone train` whose
    backbone is this model. timm resizes position and patch embeddings. For images without three channels, the patch
    embedding is adapted by `adapt_input_conv` of timm: for n channels the weights of the three channels are repeated
    and divided by n / 3, and for one channel they are summed.

    Args:
        vit: model, changed in place.
        path: as for `open_weights`.
        key: selects the weights if the file has several sets.

    Raises:
        FileNotFoundError: the file or folder does not exist.
        CheckpointError: the file cannot be read, or does not fit the model. The model is not changed.
    """
    file = resolve(path)
    content = open_weights(file, key)
    if key is not None and not is_asked_for(content.key, key):
        raise CheckpointError(f'{file} has no weights that --weights-key {key} could mean: its weights are under '
                              f'{", ".join(repr(name) for name in [content.key, *content.other_keys])}')
    stored = dict(content.weights)
    check_finite(stored, file)
    expected = vit.state_dict()
    weights = _without_wrapper(stored)
    _check_size(weights, expected, file)
    before = weights
    positions = _resized_positions(weights, vit, facts_of(content.content, content.config).image_size)
    if positions is None:
        weights = _convert(weights, vit, file)
    else:
        weights = {**_convert({**weights, 'pos_embed': expected['pos_embed']}, vit, file), 'pos_embed': positions}
    if _ANCHOR in weights and weights[_ANCHOR].ndim == 4 and weights[_ANCHOR].shape[2:] != expected[_ANCHOR].shape[2:]:
        # The conversion of timm for SAM does not resize the patch embedding.
        weights[_ANCHOR] = resample_patch_embed(weights[_ANCHOR].float(), list(expected[_ANCHOR].shape[2:]))
    resized = [name for name in stored.keys() & weights.keys() if stored[name].shape != weights[name].shape]
    if positions is not None and positions is not before.get('pos_embed') and 'pos_embed' not in resized:
        resized.append('pos_embed')
    if _ANCHOR in weights:
        weights[_ANCHOR], adapted = _adapt_channels(weights[_ANCHOR], expected[_ANCHOR])
        resized += [_ANCHOR] if adapted and _ANCHOR not in resized else []
    _move_norm(weights, expected)
    unused = {name for name in weights.keys() - expected.keys()
              if name.startswith(HEADS) or name.endswith('relative_position_index')}
    weights = {name: value for name, value in weights.items() if name not in unused}
    problem = mismatches(weights, expected)
    if problem:
        raise CheckpointError(f'{file} does not fit this model of timm.\n{problem}'
                              'Name the model of timm that the file belongs to, with the options it was built with.')
    vit.load_state_dict(weights)
    changed = f', resized: {few(sorted(resized))}' if resized else ''
    left_out = f', left out: {few(sorted(unused))}' if unused else ''
    logging.getLogger('mae_backbone').info(f'{file}: {len(weights)} tensors loaded{changed}{left_out}')


def weights_file(path: str | Path) -> Path:
    """Returns `path` if it is a file, or the weight file in a folder. Raises FileNotFoundError if there is none."""
    path = Path(path)
    return file_in(path) if path.is_dir() else path


def folder_config(folder: str | Path) -> dict[str, Any]:
    """Returns the content of `config.json` in a local hub folder of timm.

    Raises:
        CheckpointError: the file does not exist, or does not describe a timm model.
    """
    file = Path(folder, 'config.json')
    config = read_json(file, must_exist=False)
    if not isinstance(config.get('architecture'), str):
        raise CheckpointError(f'{folder} has no config.json that names the "architecture" of a model of timm: pass a '
                              'folder as timm.models.save_for_hf writes it, or name the model and pass the file of '
                              'weights as checkpoint')
    return config


def _without_wrapper(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefix of the names of the only ViT in a checkpoint, and the decoder of a MAE."""
    prefixes = [name.removesuffix(_ANCHOR) for name in stored if name == _ANCHOR or name.endswith('.' + _ANCHOR)]
    if len(prefixes) == 1 and prefixes[0] not in _PREFIXES_OF_TIMM:
        stored = {name.removeprefix(prefixes[0]): value for name, value in stored.items()
                  if name.startswith(prefixes[0])}
    decoder = any(name.startswith('decoder_') for name in stored)
    # A mask_token without a decoder must be kept: timm recognizes files of DINOv2 and EVA by it.
    return {name: value for name, value in stored.items()
            if not (decoder and name.startswith(('decoder_', 'mask_token')))}


def _check_size(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> None:
    """Raises CheckpointError for another width or number of blocks, which timm's conversions do not check."""
    def size(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
        return len(tensors[_ANCHOR]), len({name.split('.')[1] for name in tensors if name.startswith('blocks.')})

    if _ANCHOR not in weights or weights[_ANCHOR].ndim == 0:
        return  # another layout
    stored, wanted = size(weights), size(expected)
    if stored != wanted and stored[1]:
        raise CheckpointError(f'{file} has a ViT of width {stored[0]} with {stored[1]} blocks, this model of timm has '
                              f'width {wanted[0]} and {wanted[1]} blocks: name the model of timm that the file belongs '
                              'to, with the options it was built with')


def _convert(weights: dict[str, Tensor], vit: nn.Module, file: Path) -> dict[str, Tensor]:
    """Renames and resizes weights with the function that timm has for this kind of model."""
    convert = getattr(sys.modules[type(vit).__module__], 'checkpoint_filter_fn', None)
    if convert is None:
        return weights
    # DeiT III names its LayerScale gamma_1. timm converts this name only for the models in its deit.py.
    options = {'adapt_layer_scale': True} if 'adapt_layer_scale' in inspect.signature(convert).parameters else {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm prints the names of weights of DINOv3 that it skips
            return dict(convert(weights, vit, **options))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f'{file} cannot be converted for {type(vit).__name__} of timm '
                              f'({type(error).__name__}: {error}): it holds {few(weights)}. Name the model of timm '
                              'that the file belongs to') from error


def _resized_positions(weights: Mapping[str, Tensor], vit: nn.Module, image_size: Grid | None) -> Tensor | None:
    """Returns position embeddings for the grid of a model if timm would assume a wrong grid of the file; else None.

    timm determines the grid in the file from the size in the config of the model, or assumes a square one. It keeps
    positions if the model has as many, which may be for another grid.

    Args:
        weights: weights before the conversion.
        vit: model.
        image_size: image size (H, W) that the file states; None if it does not.
    """
    stored, patches = weights.get('pos_embed'), weights.get(_ANCHOR)
    if stored is None or stored.ndim != 3 or patches is None or patches.ndim != 4:
        return None
    prefix = 0 if getattr(vit, 'no_embed_class', False) else getattr(vit, 'num_prefix_tokens', 1)
    target: Grid = vit.patch_embed.grid_size  # type: ignore[union-attr,assignment]  # of timm
    number, patch_size = stored.shape[1] - prefix, patches.shape[3]
    grid = stored_grid(number, image_size, patch_size)
    size = vit.pretrained_cfg.get('input_size', (0, 0, 0))  # type: ignore[union-attr,operator]  # of timm
    known = (size[1] // patch_size) * (size[2] // patch_size) == number  # timm uses this size
    if grid is None or (grid[0] == grid[1] and (known or target[0] * target[1] != number)):
        return None
    return stored if grid == target else resize_positions(stored, grid, target, prefix=prefix, antialias=True)


def _adapt_channels(stored: Tensor, expected: Tensor) -> tuple[Tensor, bool]:
    """Returns the patch embedding (D, C, p, p) for the channels of the model, and True if it was adapted."""
    if stored.ndim != 4 or stored.shape[1] == expected.shape[1] or stored.shape[1] != 3:
        return stored, False
    return adapt_input_conv(expected.shape[1], stored), True


def _move_norm(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Renames the weights of the last norm if the model has it after the pooling (`fc_norm`) and the file before it
    (`norm`), or vice versa.
    """
    for here, there in (('fc_norm', 'norm'), ('norm', 'fc_norm')):
        for part in ('weight', 'bias'):
            if f'{here}.{part}' in expected.keys() - weights.keys() and f'{there}.{part}' in weights.keys() - \
                    expected.keys():
                weights[f'{here}.{part}'] = weights.pop(f'{there}.{part}')
