"""Loads checkpoint files and local hub folders into timm's Vision Transformers, through timm's own conversions."""
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

from mae_backbone.checkpoints.model_index import resolve
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.state_dicts import check_finite, few, mismatches
from mae_backbone.checkpoints.weight_files import file_in, open_weights, read_json

_ANCHOR = 'patch_embed.proj.weight'
# Prefixes that timm's conversions expect: segment-anything; OpenCLIP with an encoder of timm; EVA-CLIP.
_PREFIXES_OF_TIMM = ('image_encoder.', 'visual.trunk.', 'module.visual.trunk.', 'visual.')
# Parts behind the blocks, which a backbone may do without.
HEADS = ('head.', 'head_dist.', 'fc_norm.', 'norm.', 'attn_pool.', 'neck.')


def load_timm(vit: nn.Module, path: str | Path, *, key: str | None = None) -> None:
    """Loads the weights in a file or a local hub folder into a model of timm.

    Reads state dicts in timm's names, the original files that timm converts by itself (DINOv2, DINOv3, DeiT III,
    OpenAI's CLIP as a state dict, OpenCLIP, SigLIP, EVA-02, BEiT, segment-anything), and checkpoints of
    `mae-backbone train` with this model as their backbone. Position embeddings and patches are resized to the model by
    timm, and images of other channels than the file's by timm's rule (`adapt_input_conv`: n channels repeat the three
    of the file and are divided by n / 3, one channel is their sum).

    Args:
        vit: changed in place.
        path: as for `open_weights`.
        key: which weights to take if the file has several.

    Raises:
        FileNotFoundError: there is no such file or folder.
        CheckpointError: the file cannot be read, or does not fit. The model is not changed.
    """
    file = resolve(path)
    stored = dict(open_weights(file, key).weights)
    check_finite(stored, file)
    expected = vit.state_dict()
    weights = _without_wrapper(stored)
    _check_size(weights, expected, file)
    weights = _convert(weights, vit, file)
    if _ANCHOR in weights and weights[_ANCHOR].ndim == 4 and weights[_ANCHOR].shape[2:] != expected[_ANCHOR].shape[2:]:
        # Of SAM, whose conversion in timm does not resize them; by timm's function and its defaults.
        weights[_ANCHOR] = resample_patch_embed(weights[_ANCHOR].float(), list(expected[_ANCHOR].shape[2:]))
    resized = [name for name in stored.keys() & weights.keys() if stored[name].shape != weights[name].shape]
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
    """The file with the weights: `path` itself, or the one in a folder. Raises FileNotFoundError if there is none."""
    path = Path(path)
    return file_in(path) if path.is_dir() else path


def folder_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a local hub folder of timm.

    Raises:
        CheckpointError: it is missing, or does not describe a model of timm.
    """
    file = Path(folder, 'config.json')
    config = read_json(file, must_exist=False)
    if not isinstance(config.get('architecture'), str):
        raise CheckpointError(f'{folder} has no config.json that names the "architecture" of a model of timm: pass a '
                              'folder as timm.models.save_for_hf writes it, or name the model and pass the file of '
                              'weights as checkpoint')
    return config


def _without_wrapper(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefix of the only ViT in a checkpoint, and the parts of a MAE other than the encoder."""
    prefixes = [name.removesuffix(_ANCHOR) for name in stored if name == _ANCHOR or name.endswith('.' + _ANCHOR)]
    if len(prefixes) == 1 and prefixes[0] not in _PREFIXES_OF_TIMM:
        stored = {name.removeprefix(prefixes[0]): value for name, value in stored.items()
                  if name.startswith(prefixes[0])}
    decoder = any(name.startswith('decoder_') for name in stored)
    # Without a decoder, a mask_token tells timm that the file is of DINOv2 or EVA.
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
    """Renames and resizes by the function that timm has for this kind of model."""
    convert = getattr(sys.modules[type(vit).__module__], 'checkpoint_filter_fn', None)
    if convert is None:
        return weights
    # DeiT III names its LayerScale gamma_1. timm converts this name only for the models in its deit.py.
    options = {'adapt_layer_scale': True} if 'adapt_layer_scale' in inspect.signature(convert).parameters else {}
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # timm prints what it leaves out of a DINOv3
            return dict(convert(weights, vit, **options))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f'{file} cannot be converted for {type(vit).__name__} of timm '
                              f'({type(error).__name__}: {error}): it holds {few(weights)}. Name the model of timm '
                              'that the file belongs to') from error


def _adapt_channels(stored: Tensor, expected: Tensor) -> tuple[Tensor, bool]:
    """Patch embedding (D, C, p, p) for the channels of the model, and whether it was adapted."""
    if stored.ndim != 4 or stored.shape[1] == expected.shape[1] or stored.shape[1] != 3:
        return stored, False
    return adapt_input_conv(expected.shape[1], stored), True


def _move_norm(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Uses the last norm of a pretrained encoder after the pooling, if the model has it only there; or vice versa."""
    for here, there in (('fc_norm', 'norm'), ('norm', 'fc_norm')):
        for part in ('weight', 'bias'):
            if f'{here}.{part}' in expected.keys() - weights.keys() and f'{there}.{part}' in weights.keys() - \
                    expected.keys():
                weights[f'{here}.{part}'] = weights.pop(f'{there}.{part}')
