"""Writes files for the public MAE code (facebookresearch/mae): `.pth` with the key `model`."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.files import KEY
from mae_backbone.checkpoints.conversion.model import StoredModel
from mae_backbone.checkpoints.conversion.target import Result, Target
from mae_backbone.checkpoints.layouts.public_mae import PublicMAE

# Names of the head of a linear probe in `main_linprobe.py`: a Sequential of BatchNorm1d and a linear layer.
_PROBE = {'head_norm.running_mean': 'head.0.running_mean', 'head_norm.running_var': 'head.0.running_var',
          'head_norm.num_batches_tracked': 'head.0.num_batches_tracked', 'head.weight': 'head.1.weight',
          'head.bias': 'head.1.bias'}


class MAETarget(Target):
    """Models of `models_mae.py` and `models_vit.py` (fine-tuned), and the head of `main_linprobe.py`.

    The public MAE code is not a package. Its encoder is a subclass of timm's VisionTransformer, so that timm is used
    for the verification.
    """

    name, title = 'mae', 'the public MAE code'
    layout = PublicMAE()
    library = package = 'timm'
    suffixes = ('.pth', '.pt')
    holds_decoder = holds_batch_norm = True
    pools = ('class', 'mean')

    def problems(self, model: StoredModel) -> list[str]:
        """Adds problems with a decoder: the code needs three channels, and does not support norm_pix='image'."""
        problems, architecture = super().problems(model), model.architecture
        if architecture.decoder is not None and architecture.in_channels != 3:
            problems.append(f'{architecture.in_channels} channels, as its patchify has 3: pass --encoder, or use '
                            '--to hf or --to safetensors')
        if architecture.decoder is not None and architecture.norm_pix == 'image':
            problems.append("norm_pix='image', which its loss does not have: pass --encoder, or use --to safetensors")
        return problems

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """Returns the weights with the names of the public code. Only the names of a linear probe differ from ours."""
        names = _PROBE if 'head_norm.running_mean' in model.weights else {}
        return {names.get(name, name): value for name, value in model.weights.items()}

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `tensors`."""
        names = {theirs: ours for ours, theirs in _PROBE.items()}
        return {names.get(name, name): value for name, value in tensors.items()}

    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the arguments of VisionTransformer of timm, the base class of the encoders of the public code."""
        return vision_transformer_arguments(model)

    def write(self, result: Result, path: Path) -> None:
        """Writes dict(model=weights) and the metadata."""
        torch.save({'model': result.tensors, KEY: result.metadata}, path)

    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns the line with which the public code loads weights."""
        return f"model.load_state_dict(torch.load('{path}', weights_only=True)['model'])"

    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes features, and logits of a linear head, with VisionTransformer of timm."""
        from timm.models.vision_transformer import VisionTransformer
        weights = torch.load(path, weights_only=True)['model']
        vit = VisionTransformer(**self.config(model))
        vit.load_state_dict({name: value.float() for name, value in weights.items() if name in vit.state_dict()})
        return timm_outputs(vit.eval(), images, with_logits='head.weight' in weights)


def vision_transformer_arguments(model: StoredModel) -> dict[str, Any]:
    """Returns the arguments of `VisionTransformer` of timm for a model without windows and relative positions."""
    architecture, height = model.architecture, model.architecture.image_size[0]
    fc_norm = 'fc_norm.weight' in model.weights
    square = architecture.grid[0] == architecture.grid[1]
    pool = {'mean': 'avg', 'class': 'token'}.get(str(architecture.pool), 'token' if architecture.class_token else 'avg')
    return dict(img_size=height if square else list(architecture.image_size), patch_size=architecture.patch_size,
                in_chans=architecture.in_channels, num_classes=model.num_classes, global_pool=pool,
                embed_dim=architecture.width, depth=architecture.depth, num_heads=architecture.heads,
                class_token=architecture.class_token, fc_norm=fc_norm,
                # With fc_norm=True, timm applies the last norm after the pooling. With final_norm=False it has no norm.
                final_norm=architecture.final_norm or fc_norm)


@torch.no_grad()
def timm_outputs(vit: torch.nn.Module, images: Tensor, *, with_logits: bool) -> dict[str, Tensor]:
    """Computes the outputs of VisionTransformer of timm, with the names of `our_outputs`."""
    tokens = vit.forward_features(images)  # type: ignore[operator]  # of timm
    if not getattr(vit, 'has_class_token', True):
        grid = vit.patch_embed.dynamic_feat_size(images.shape[2:])  # type: ignore[union-attr,operator]
        return {'features': tokens.transpose(1, 2).unflatten(2, grid)}
    outputs = {'features': tokens}
    if with_logits:
        outputs['logits'] = vit.forward_head(tokens)  # type: ignore[operator]
    return outputs
