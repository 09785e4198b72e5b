"""Replaces our ViT in a config by a ViT of timm, and adapts the channels of neck and heads."""
from typing import Any

import torch
from mmengine.config import Config

from mae_backbone.core.vit import find_arch
from mae_backbone.models.timm_vit import TimmViT


def build_empty(name: str, options: dict[str, Any]) -> TimmViT:
    """Builds a `TimmViT` on the meta device, which needs no memory for weights, to read its sizes."""
    with torch.device('meta'):
        return TimmViT(name, **options)


def timm_overrides(cfg: Config, name: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns settings that replace the `ViTBackbone` of a config by a timm model.

    The model gets the patch size of the config, so that feature maps keep their stride. The weights of its patch
    embedding are resized when they are loaded. Its number of patches does not change. `out_indices` and `frozen_stages`
    select blocks at the same relative depth. The normalization of the pixels is set to the values of the timm model.

    Args:
        cfg: config of a detector, a segmenter or a classifier.
        name: name of the timm model or path of a local hub folder, as in `TimmViT`.
        options: arguments of `TimmViT`. They take precedence over the config.

    Returns:
        Settings by top-level key of the config.

    Raises:
        ValueError: the model is unknown, the config has no `ViTBackbone`, or the channels of a neck or head cannot be
            adapted.
    """
    model, options = cfg.model.to_dict(), options or {}
    old: dict[str, Any] = model.get('backbone') or {}
    is_classifier = model.get('type') == 'mae_backbone.ViTClassifier'
    if not is_classifier and old.get('type') != 'mae_backbone.ViTBackbone':
        raise ValueError(f'the config has the backbone {old.get("type")}: a model of timm can only replace a '
                         'mae_backbone.ViTBackbone')
    before, native = find_arch(old.get('arch', 'base')), build_empty(name, options)
    new: dict[str, Any] = {'_delete_': True, 'type': 'mae_backbone.TimmViT', 'name': name}
    patch_size = old.get('patch_size', 16)
    if native.patch_size != patch_size and 'patch_size' not in options:
        new |= {'patch_size': patch_size, 'image_size': tuple(patch_size * side for side in native.grid)}
    new |= {key: old[key] for key in ('drop_path_rate', 'checkpointing', 'final_norm') if key in old}
    if old.get('in_channels', 3) != 3:
        new['in_chans'] = old['in_channels']
    new |= _same_blocks(old, before.depth, native.arch.depth) | options
    overrides: dict[str, Any] = {'model': {'backbone': new}}
    if old.get('in_channels', 3) == 3:
        overrides['model']['data_preprocessor'] = {'mean': list(native.mean), 'std': list(native.std)}
    if is_classifier:
        if model.get('pool') == 'class' and native.cls_token is None:
            overrides['model']['pool'] = 'model'
    else:
        overrides['model'] |= _channels(model, before.width, native.out_channels)
    if 'LayerDecayConstructor' in str((cfg.get('optim_wrapper') or {}).get('constructor')):
        overrides['optim_wrapper'] = {'paramwise_cfg': {'no_decay_of_model': True}}
    return overrides


def _same_blocks(old: dict[str, Any], depth: int, new_depth: int) -> dict[str, Any]:
    """Returns `frozen_stages` and `out_indices` for a model of another depth, at the same relative depth.

    Args:
        old: settings of the backbone in the config.
        depth: number of blocks of this backbone.
        new_depth: number of blocks of the timm model.

    Raises:
        ValueError: the config freezes some of the blocks, and the depths differ.
    """
    result: dict[str, Any] = {}
    if 'frozen_stages' in old:
        stages = old['frozen_stages']
        if stages not in (-1, 0, depth) and new_depth != depth:
            raise ValueError(f'the config freezes {stages} of {depth} blocks, and the model of timm has {new_depth}: '
                             'set frozen_stages of the backbone')
        result['frozen_stages'] = new_depth if stages == depth else stages
    if 'out_indices' in old:
        result['out_indices'] = [i if i < 0 else (i + 1) * new_depth // depth - 1 for i in old['out_indices']]
    return result


def _channels(model: dict[str, Any], old: int, new: int) -> dict[str, Any]:
    """Returns settings of neck and heads for feature maps with another number of channels.

    Args:
        model: settings of the model in the config.
        old: number of channels of the backbone in the config.
        new: number of channels of the timm model.

    Raises:
        ValueError: the channels of a neck or head cannot be adapted.
    """
    def scaled(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [scaled(item) for item in value]
        if value * new % old:
            raise ValueError(f'{value} channels of the config belong to a width of {old}, and the width {new} is not a '
                             f'multiple of it: set the channels of neck and heads')
        return value * new // old

    necks = model.get('neck') or []
    result: dict[str, Any] = {}
    if necks:
        first, *rest = necks if isinstance(necks, list) else [necks]
        key = 'embed_dim' if first['type'] == 'Feature2Pyramid' else 'in_channels'
        if first.get(key) != old:
            raise ValueError(f'the neck {first["type"]} has {key}={first.get(key)}, expected the width {old} of the '
                             'backbone: set the channels of the neck')
        changed = {**first, key: new}
        if isinstance(necks, list):
            result['neck'] = [changed, *({**neck, 'in_channels': scaled(neck['in_channels'])} for neck in rest)]
        else:
            result['neck'] = {key: new}
        if rest or first['type'] == 'mae_backbone.SimpleFeaturePyramid':
            return result  # the input channels of the heads equal the output channels of the neck, which do not change
    for name in ('decode_head', 'auxiliary_head'):
        head = model.get(name)
        if isinstance(head, dict):
            result[name] = {'in_channels': scaled(head['in_channels'])}
            if head['type'] == 'mae_backbone.LinearHead' or head.get('num_convs') == 0:
                result[name]['channels'] = new  # such a head is a linear layer on the feature map
    return result
