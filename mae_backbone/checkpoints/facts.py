"""Reads the facts that a file states about its model: number of heads, pixel normalization, activation, pooling."""
import json
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.core.vit import ARCHS

# Number of heads by the size in the name of an architecture: tiny and small as in DeiT, base, large and huge as in the
# ViT paper. timm, DINO, I-JEPA and the public MAE code use these sizes.
_HEADS = {name: arch.heads for name, arch in ARCHS.items()}
# The small model of MoCo v3 has 12 heads (facebookresearch/moco-v3, `vits.py`).
_HEADS_OF_MOCO = _HEADS | {'small': 12}
# Number of heads in mmpretrain (`VisionTransformer.arch_zoo` and `MAEViT`).
_HEADS_OF_MMPRETRAIN = {'s': 8, 'small': 8, 'b': 12, 'base': 12, 'l': 16, 'large': 16, 'h': 16, 'huge': 16,
                        'deit-t': 3, 'deit-tiny': 3, 'deit-s': 6, 'deit-small': 6, 'deit-b': 12, 'deit-base': 12,
                        'mae_vit-b': 12, 'mae_vit-l': 16}
# Key of the metadata of conversions in `config.json`, in the header of safetensors, and in a `.pth`.
CONVERSION_KEY = 'mae_backbone_conversion'
# Mean and standard deviation (0 to 255) of ImageNet as in torchvision, and of the augreg weights of timm and the ViT of
# Hugging Face.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALF = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))


@dataclass(frozen=True)
class Facts:
    """Properties of a model that shapes of weights do not show. A property is None if the file does not state it.

    Attributes:
        heads, decoder_heads: number of attention heads in the encoder, and in the decoder of a MAE.
        mean, std: normalization of the pixels for each channel, on the scale of 0 to 255.
        activation: activation of the MLPs, with its name in the file, such as 'gelu' or 'quick_gelu'.
        pool: pooling of the tokens in a classifier, with its name in the file.
        norm_eps: epsilon of the LayerNorms.
        norm_pix: True if a MAE predicts pixels that are normalized in each patch.
        image_size: height and width in pixels of the images for which position embeddings are stored.
        source: where the file states the number of heads, for messages.
        pixels_source: where the file states the normalization, for messages.
    """

    heads: int | None = None
    decoder_heads: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    activation: str | None = None
    pool: str | None = None
    norm_eps: float | None = None
    norm_pix: bool | None = None
    image_size: tuple[int, int] | None = None
    source: str = ''
    pixels_source: str = ''


def facts_of(content: Mapping[str, Any], config: Mapping[str, Any] | None = None,
             preprocessor: Mapping[str, Any] | None = None, *, layout: str = '', width: int | None = None) -> Facts:
    """Returns the facts that a checkpoint states.

    Args:
        content: top level of the file.
        config, preprocessor: content of `config.json` and `preprocessor_config.json` in the folder of the file.
        layout: name of the layout, because the same name of an architecture has different sizes in different layouts.
        width: width of the ViT. A name of an architecture with another width is ignored.
    """
    facts: dict[str, Any] = {}
    # The metadata of a conversion state mean and std on the scale of the pixels, `config.json` of timm does not.
    for found in (_of_huggingface(config or {}, preprocessor or {}), _of_conversion(content, config or {}),
                  _of_timm(config or {}, width), _of_run(content), _of_arguments(content, layout, width)):
        facts |= {key: value for key, value in found.items() if value is not None and key not in facts}
    return Facts(**facts)


def _of_huggingface(config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> dict[str, Any]:
    """Reads `config.json` and `preprocessor_config.json` of transformers."""
    facts: dict[str, Any] = dict(image_size=_size(config.get('image_size')))
    if 'num_attention_heads' in config:
        facts |= dict(heads=_int(config['num_attention_heads']), source='config.json',
                      decoder_heads=_int(config.get('decoder_num_attention_heads')),
                      activation=_text(config.get('hidden_act')), norm_eps=_number(config.get('layer_norm_eps')),
                      norm_pix=config.get('norm_pix_loss') if isinstance(config.get('norm_pix_loss'), bool) else None)
    mean, std = (_numbers(preprocessor.get(f'image_{name}')) for name in ('mean', 'std'))
    if mean and std:
        white = 1 / (_number(preprocessor.get('rescale_factor')) or 1 / 255)
        if preprocessor.get('do_rescale') is False:  # the images have the scale of mean and std
            white = 1.0 if max(std) > 1 else 255.0
        if preprocessor.get('do_normalize') is False:
            mean, std = (0.0,) * len(mean), (1.0,) * len(std)
        facts |= dict(mean=_scaled(mean, white), std=_scaled(std, white), pixels_source='preprocessor_config.json')
    return facts


def _of_timm(config: Mapping[str, Any], width: int | None) -> dict[str, Any]:
    """Reads `config.json` of timm."""
    name = _text(config.get('architecture'))
    if name is None:
        return {}
    arguments, pretrained = _dict(config.get('model_args')), _dict(config.get('pretrained_cfg'))
    facts: dict[str, Any] = dict(heads=_int(arguments.get('num_heads')) or _heads_of_name(name, _HEADS, width),
                                 source='config.json', pool=_text(config.get('global_pool')),
                                 activation=_text(arguments.get('act_layer')),
                                 image_size=_size(arguments.get('img_size')))
    mean, std = (_numbers(pretrained.get(key)) for key in ('mean', 'std'))
    if mean and std:
        facts |= dict(mean=_scaled(mean), std=_scaled(std), pixels_source='config.json')
    return facts


def _of_run(content: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the config in a checkpoint of MMEngine, written by this package, mmpretrain or mmseg."""
    model = _dict(config_in(content).get('model'))
    encoder = _dict(model.get('encoder')) or _dict(model.get('backbone'))
    if not encoder:
        return {}
    arch, heads = encoder.get('arch'), _int(encoder.get('num_heads'))
    if isinstance(arch, dict):
        heads = _int(arch.get('heads')) or _int(arch.get('num_heads'))
    elif isinstance(arch, str):
        heads = _HEADS.get(arch) if is_ours(model, encoder) else _HEADS_OF_MMPRETRAIN.get(arch)
    head, preprocessor = _dict(model.get('head')), _dict(model.get('data_preprocessor'))
    neck = _dict(model.get('neck'))
    facts: dict[str, Any] = dict(
        heads=heads, source='the config in the file', pool=_text(model.get('pool')),
        decoder_heads=_int(model.get('decoder_heads')) or _int(neck.get('decoder_num_heads')),
        image_size=_size(encoder.get('pretrain_image_size') or encoder.get('image_size') or encoder.get('img_size')),
        norm_pix=next((value for value in (model.get('norm_pix'), head.get('norm_pix')) if isinstance(value, bool)),
                      None))
    mean, std = (_numbers(preprocessor.get(key)) for key in ('mean', 'std'))
    if mean and std:
        facts |= dict(mean=mean, std=std, pixels_source='the config in the file')
    return facts


def is_ours(model: Mapping[str, Any], encoder: Mapping[str, Any]) -> bool:
    """True if the `model` of a config of MMEngine, with this encoder or backbone, is a model of this package."""
    return 'mae_backbone.' in str(model.get('type')) + str(encoder.get('type')) or 'encoder' in model


def _of_conversion(content: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the metadata that `mae-backbone convert` and `save_pretrained` write."""
    metadata = content.get(CONVERSION_KEY) or config.get(CONVERSION_KEY)
    if isinstance(metadata, str):  # in the header of safetensors
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            return {}
    architecture = _dict(_dict(metadata).get('architecture'))
    if not architecture:
        return {}
    decoder, norm_pix = architecture.get('decoder'), architecture.get('norm_pix')
    grid, patch_size = _size(architecture.get('grid')), _int(architecture.get('patch_size'))
    facts: dict[str, Any] = dict(
        heads=_int(architecture.get('heads')), source='the metadata of its conversion',
        decoder_heads=_int(decoder[2]) if isinstance(decoder, list) and len(decoder) == 3 else None,
        norm_pix=norm_pix if isinstance(norm_pix, bool) else None, pool=_text(architecture.get('pool')),
        image_size=(grid[0] * patch_size, grid[1] * patch_size) if grid and patch_size else None)
    mean, std = (_numbers(architecture.get(key)) for key in ('mean', 'std'))
    if mean and std:
        facts |= dict(mean=mean, std=std, pixels_source='the metadata of its conversion')
    return facts


def _of_arguments(content: Mapping[str, Any], layout: str, width: int | None) -> dict[str, Any]:
    """Reads the name of the architecture in training checkpoints: `arch`, or the arguments of the command."""
    arguments = content.get('args')
    stated = vars(arguments) if isinstance(arguments, Namespace) else _dict(arguments)
    name = next((value for value in (content.get('arch'), stated.get('arch'), stated.get('model'))
                 if isinstance(value, str)), None)
    facts: dict[str, Any] = dict(norm_pix=stated.get('norm_pix_loss') if isinstance(stated.get('norm_pix_loss'), bool)
                                 else None)
    if name is None:
        return facts
    facts |= dict(heads=_heads_of_name(name, _HEADS_OF_MOCO if layout == 'moco' else _HEADS, width),
                  source=f'the architecture {name!r} in the file')
    if name.startswith('mae_vit_'):
        facts['decoder_heads'] = 16  # public MAE code, `models_mae.py`
    mean, std = (_numbers(stated.get(key)) for key in ('mean', 'std'))  # of timm's train.py
    if mean and std:
        facts |= dict(mean=_scaled(mean), std=_scaled(std), pixels_source='the arguments in the file')
    return facts


def _heads_of_name(name: str, heads: Mapping[str, int], width: int | None) -> int | None:
    sizes = [size for size in heads if size in re.split(r'[_\-./]', name)]
    known = len(sizes) == 1 and width in (None, ARCHS[sizes[0]].width)
    return heads[sizes[0]] if known else None


def _scaled(values: Sequence[float], white: float = 255.0) -> tuple[float, ...]:
    """Converts values from the scale of 0 to 1 to the scale of the pixels, whose largest value is `white`."""
    return tuple(round(white * value, 4) for value in values)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _size(value: object) -> tuple[int, int] | None:
    """Returns (H, W) of an image size, which is a number for both or two numbers; None for other values."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, (list, tuple)) or len(sides) != 2:
        return None
    height, width = map(_int, sides)
    return (height, width) if height and width else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _numbers(values: object) -> tuple[float, ...] | None:
    if not isinstance(values, (list, tuple)) or not values:
        return None
    numbers = [_number(value) for value in values]
    return None if None in numbers else tuple(number for number in numbers if number is not None)
