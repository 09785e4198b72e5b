"""Writes folders for `timm.create_model('local-dir:FOLDER', pretrained=True)`."""
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.target import Result, Target
from mae_backbone.checkpoints.conversion.to_mae import timm_outputs, vision_transformer_arguments
from mae_backbone.checkpoints.conversion.to_safetensors import write_folder
from mae_backbone.checkpoints.layouts.timm import Timm, TimmPatches

# Name in timm by (name in `ARCHS`, patch size). Other sizes are written as `vit_base_patch16_224` with other arguments.
_NAMES = {('tiny', 16): 'vit_tiny_patch16_224', ('small', 16): 'vit_small_patch16_224',
          ('small', 32): 'vit_small_patch32_224', ('base', 8): 'vit_base_patch8_224',
          ('base', 16): 'vit_base_patch16_224', ('base', 32): 'vit_base_patch32_224',
          ('large', 14): 'vit_large_patch14_224', ('large', 16): 'vit_large_patch16_224',
          ('large', 32): 'vit_large_patch32_224', ('huge', 14): 'vit_huge_patch14_224'}


class TimmTarget(Target):
    """VisionTransformer of timm, with a classifier if the model has one."""

    name, title = 'timm', "timm's VisionTransformer"
    layout = Timm()
    library = package = 'timm'
    needs_class_token = needs_norm = needs_square = False
    pools = ('class', 'mean')

    def reduced(self, model: StoredModel) -> StoredModel:
        """Sets the position of the class token to zero if the model has no class token."""
        model = super().reduced(model)
        positions = model.weights['pos_embed']
        if model.architecture.class_token or not positions[:, 0].any():
            return model
        positions = torch.cat([torch.zeros_like(positions[:, :1]), positions[:, 1:]], dim=1)
        return replace(model, weights={**model.weights, 'pos_embed': positions},
                       notes=[*model.notes, 'left out: the position of a class token, which the model does not have'])

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """Returns the weights with our names, which timm uses too. Without class token, its position is not stored."""
        return (Timm() if model.architecture.class_token else TimmPatches()).from_ours(model.weights)

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `tensors`."""
        return (Timm() if 'cls_token' in tensors else TimmPatches()).to_ours(tensors)

    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the content of `config.json`, as `save_for_hf` of timm writes it."""
        architecture, arguments = model.architecture, vision_transformer_arguments(model)
        pretrained: dict[str, Any] = dict(
            input_size=[architecture.in_channels, *architecture.image_size], num_classes=model.num_classes,
            interpolation='bicubic', crop_pct=0.875, crop_mode='center', fixed_input_size=True, pool_size=None,
            first_conv='patch_embed.proj', classifier='head', custom_load=False)
        scale = architecture.pixel_scale
        if scale and len(architecture.mean) == architecture.in_channels:
            pretrained |= dict(mean=[round(value / scale, 6) for value in architecture.mean],
                               std=[round(value / scale, 6) for value in architecture.std])
        if model.origin.license:
            pretrained['license'] = model.origin.license
        name = _NAMES.get((str(architecture.name), architecture.patch_size), 'vit_base_patch16_224')
        config = dict(architecture=name, num_classes=model.num_classes, num_features=architecture.width,
                      global_pool=arguments['global_pool'], model_args=arguments, pretrained_cfg=pretrained)
        if architecture.classes:
            config['label_names'] = list(architecture.classes)
        return config

    def write(self, result: Result, path: Path) -> None:
        """Writes `model.safetensors` and `config.json`."""
        write_folder(result, path, self.layout.name)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns a call of `create_model`."""
        return f"import timm\nmodel = timm.create_model('local-dir:{path}', pretrained=True)"

    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes features, and the logits of a classifier."""
        import timm
        vit = timm.create_model(f'local-dir:{path}', pretrained=True)
        return timm_outputs(vit.float().eval(), images, with_logits=bool(model.num_classes))
