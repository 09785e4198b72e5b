"""Writes files for mmpretrain: `.pth` with `state_dict`, and the config of the model in `meta`."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.files import KEY
from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.target import NotInstalledError, Result, Target
from mae_backbone.checkpoints.layouts.openmmlab import Mmpretrain


class MmpretrainTarget(Target):
    """MAE of mmpretrain for a model with a decoder, ImageClassifier with a head, otherwise VisionTransformer."""

    name, title = 'mmpretrain', "mmpretrain's MAE and VisionTransformer"
    layout = Mmpretrain()
    library = package = 'mmpretrain'
    suffixes = ('.pth',)
    holds_decoder = True
    pools = ('class', 'mean')

    def problems(self, model: StoredModel) -> list[str]:
        """Adds problems with norm_pix='image', and with mean pooling without a norm, which mmpretrain does not have."""
        problems, architecture = super().problems(model), model.architecture
        if architecture.decoder is not None and architecture.norm_pix == 'image':
            problems.append("norm_pix='image', which its loss does not have: pass --encoder, or use --to safetensors")
        if architecture.pool == 'mean' and 'fc_norm.weight' not in model.weights:
            problems.append('a mean of tokens without a norm after it: pass --encoder, or use --to timm')
        return problems

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """Returns the weights with the names of mmpretrain. The encoder always has the prefix `backbone.`."""
        tensors = self.layout.from_ours(model.weights)
        whole = bool(model.decoder or model.head)
        return tensors if whole else {f'backbone.{name}': value for name, value in tensors.items()}

    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the `model` of a config of mmpretrain."""
        architecture, height = model.architecture, model.architecture.image_size[0]
        backbone: dict[str, Any] = dict(
            arch=dict(embed_dims=architecture.width, num_layers=architecture.depth, num_heads=architecture.heads,
                      feedforward_channels=4 * architecture.width),
            img_size=height, patch_size=architecture.patch_size, patch_cfg=dict(in_channels=architecture.in_channels))
        if architecture.decoder is not None:
            size = architecture.decoder
            return dict(type='MAE', backbone=dict(type='MAEViT', mask_ratio=architecture.mask_ratio, **backbone),
                        neck=dict(type='MAEPretrainDecoder', num_patches=architecture.grid[0] * architecture.grid[1],
                                  patch_size=architecture.patch_size, in_chans=architecture.in_channels,
                                  embed_dim=architecture.width, decoder_embed_dim=size.width, decoder_depth=size.depth,
                                  decoder_num_heads=size.heads),
                        head=dict(type='MAEPretrainHead', norm_pix=bool(architecture.norm_pix),
                                  patch_size=architecture.patch_size, in_channels=architecture.in_channels,
                                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))
        mean = architecture.pool == 'mean'
        backbone |= dict(type='VisionTransformer', out_type='avg_featmap' if mean else 'cls_token',
                         final_norm=architecture.final_norm)
        if not model.num_classes:
            return backbone
        return dict(type='ImageClassifier', backbone=backbone,
                    head=dict(type='LinearClsHead', num_classes=model.num_classes, in_channels=architecture.width,
                              loss=dict(type='CrossEntropyLoss')))

    def write(self, result: Result, path: Path) -> None:
        """Writes dict(state_dict=weights, meta=dict(model=config)) and the metadata."""
        torch.save({'state_dict': result.tensors, 'meta': {'model': result.config}, KEY: result.metadata}, path)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns a line for a config of mmpretrain."""
        if model.decoder or model.head:
            return f"load_from = '{path}'  # in a config of mmpretrain"
        return f"init_cfg = dict(type='Pretrained', checkpoint='{path}', prefix='backbone.')  # of its backbone"

    @torch.no_grad()
    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes features, the logits of a classifier, and the pixels that the neck of a MAE predicts."""
        try:
            import mmpretrain.models  # noqa: F401  # registers its models
            from mmpretrain.registry import MODELS
        except Exception as error:  # with unsupported versions of its dependencies, the import raises various errors
            raise NotInstalledError(f'{self.package} cannot be imported ({error})') from error
        config = self.config(model)
        weights: Mapping[str, Tensor] = torch.load(path, weights_only=True)['state_dict']
        backbone = dict(config.get('backbone', config), type='VisionTransformer', out_type='raw')
        backbone.pop('mask_ratio', None)
        encoder = MODELS.build(backbone)
        encoder.eval()  # called separately, because it returns None in mmpretrain
        encoder.load_state_dict(_under('backbone.', weights, without=('ln2.',)))
        outputs = {'features': encoder(images)[0]}
        if model.num_classes:
            classifier = MODELS.build(config)
            classifier.eval()
            classifier.load_state_dict(weights)
            outputs['logits'] = classifier(images)
        if model.decoder:
            outputs['pixels'] = self._pixels(model, config, weights, encoder, images, noise)
        return outputs

    @staticmethod
    def _pixels(model: StoredModel, config: dict[str, Any], weights: Mapping[str, Tensor], encoder: torch.nn.Module,
                images: Tensor, noise: Tensor) -> Tensor:
        """Computes the pixels (B, L, P) with the neck.

        The visible patches are selected here, because MAEViT of mmpretrain only supports random masks.
        """
        from mmpretrain.registry import MODELS
        neck = MODELS.build(config['neck'])
        neck.eval()
        neck.load_state_dict(_under('neck.', weights))
        L = noise.shape[1]
        order = noise.argsort(dim=1)
        visible = order[:, :int(L * (1 - model.architecture.mask_ratio))]
        tokens = encoder.patch_embed(images)[0] + encoder.pos_embed[:, 1:]  # type: ignore[operator,index]
        tokens = tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[2]))
        first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(images), -1, -1)  # type: ignore[operator,index]
        tokens = torch.cat([first, tokens], dim=1)
        for layer in encoder.layers:  # type: ignore[union-attr]
            tokens = layer(tokens)
        return neck(encoder.ln1(tokens), order.argsort(dim=1))  # type: ignore[operator]


def _under(prefix: str, weights: Mapping[str, Tensor], *, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Returns the weights with a prefix in float32, without the prefix and without names that begin with `without`."""
    names = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    return {name: value.float() for name, value in names.items() if not name.startswith(without or ('\0',))}
