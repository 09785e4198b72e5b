"""Writes files for ViTDet of detectron2: a backbone or a whole detector as `.pkl` with arrays in the key `model`."""
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.build import table_grid
from mae_backbone.checkpoints.conversion.files import KEY
from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.target import NotInstalledError, Result, Target
from mae_backbone.checkpoints.detectron2 import from_detectron2, to_detectron2
from mae_backbone.checkpoints.layouts.vitdet import Detectron2
from mae_backbone.checkpoints.state_dicts import few

_DETECTOR = ('neck.', 'rpn_head.', 'roi_head.')
_PREFIX = 'backbone.net.'


class Detectron2Target(Target):
    """The backbone of ViTDet, or a whole Mask R-CNN or Cascade Mask R-CNN with this backbone.

    This backbone has no class token and no last norm, so they are not written. `pos_embed` keeps its first row, the
    position of the class token.
    """

    name, title = 'detectron2', "detectron2's ViTDet"
    layout = Detectron2()
    library = package = 'detectron2'
    suffixes = ('.pkl', '.pth')
    holds_head = False
    holds_relative_positions = holds_windows = holds_convolutions = True
    needs_class_token = needs_norm = False

    def problems(self, model: StoredModel) -> list[str]:
        """Adds problems with tables of BEiT, shifted windows, and parts of a detector that detectron2 does not have."""
        problems = super().problems(replace(model, others={}))
        table = next((name for name in model.weights if name.endswith('.relative_position_bias_table')), None)
        if table:
            problems.append(f'relative positions of BEiT ({table}): use --to safetensors')
        if model.architecture.shifted_windows:
            problems.append('shifted windows: use --to safetensors')
        others = model.others
        unknown = sorted(name for name in others
                         if not name.startswith(_DETECTOR) or name in to_detectron2({name: others[name]}))
        if unknown:
            problems.append(f'{few(unknown)}: pass --encoder to convert only the encoder, or use --to safetensors')
        return problems

    def reduced(self, model: StoredModel) -> StoredModel:
        """Returns the model without class token, last norm, decoder and head."""
        removed: list[str] = [name for name in ('cls_token', 'norm.weight', 'norm.bias') if name in model.weights]
        removed += sorted({name.split('.')[0] for name in model.head} | ({'decoder'} if model.decoder else set()))
        if not removed:
            return model
        weights = {name: value for name, value in model.encoder.items() if name not in removed}
        architecture = replace(model.architecture, class_token=False, final_norm=False, decoder=None, pool=None,
                               classes=())
        return replace(model, weights=weights, architecture=architecture,
                       notes=[*model.notes, f'left out: {", ".join(removed)}'])

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """Returns the encoder with the prefix `backbone.net.`, and the other parts renamed by `to_detectron2`."""
        return {_PREFIX + name: value for name, value in model.weights.items()} | to_detectron2(model.others)

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `tensors`."""
        return {name.removeprefix('backbone.'): value for name, value in from_detectron2(dict(tensors)).items()}

    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the arguments of `detectron2.modeling.ViT`."""
        architecture, weights = model.architecture, model.weights
        windowed = [i for i in range(architecture.depth)
                    if architecture.window_size and i not in architecture.global_blocks]
        return dict(img_size=table_grid(model)[0] * architecture.patch_size, patch_size=architecture.patch_size,
                    in_chans=architecture.in_channels, embed_dim=architecture.width, depth=architecture.depth,
                    num_heads=architecture.heads, window_size=architecture.window_size or 0,
                    window_block_indexes=windowed, use_rel_pos='blocks.0.attn.rel_pos_h' in weights,
                    residual_block_indexes=[i for i in range(architecture.depth)
                                            if f'blocks.{i}.residual.conv1.weight' in weights],
                    pretrain_img_size=architecture.image_size[0], pretrain_use_cls_token=True,
                    out_feature='last_feat')

    def write(self, result: Result, path: Path) -> None:
        """Writes dict(model=weights). With the key `__author__`, detectron2 uses the names without heuristics."""
        content = {'__author__': 'mae_backbone', KEY: result.metadata}
        if path.name.endswith('.pth') or path.suffix == '.pth':
            torch.save({'model': result.tensors, **content}, path)
            return
        with open(path, 'wb') as file:
            pickle.dump({'model': {name: value.numpy() for name, value in result.tensors.items()}, **content}, file,
                        protocol=4)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns a line for a config of detectron2."""
        return f"train.init_checkpoint = '{path}'  # in a LazyConfig of detectron2"

    @torch.no_grad()
    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes the feature maps of the backbone."""
        try:
            from detectron2.checkpoint import DetectionCheckpointer
            from detectron2.modeling import ViT
        except ImportError as error:
            raise NotInstalledError(f'{self.package} is not installed') from error
        from functools import partial
        vit = ViT(norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), **self.config(model)).eval()
        whole = torch.nn.Module()
        whole.backbone = torch.nn.Module()
        whole.backbone.net = vit
        DetectionCheckpointer(whole).load(str(path))
        return {'features': vit(images)['last_feat']}
