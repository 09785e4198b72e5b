"""Frozen encoders, and the attention maps and principal components of their features."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from mae_backbone.checkpoints.architecture import architecture_in
from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.core.vit import ViT
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.models.timm_vit import TimmViT


def build_frozen(architecture: dict[str, Any], checkpoint: str | Path | None, *, seed: int = 0) -> ViTClassifier:
    """Builds an encoder that returns features, in evaluation mode, on the GPU if there is one.

    Args:
        architecture: an `EncoderArchitecture` as a dict, or the result of `timm_architecture`.
        checkpoint: file with the weights; 'timm' for the weights that timm downloads; None for random weights.
        seed: seed of random weights. The global random state does not change.

    Raises:
        CheckpointError: the weights do not fit the architecture.
    """
    if 'timm' in architecture:
        backbone = {'type': 'mae_backbone.TimmViT', **architecture['timm']['options']}
    else:
        backbone = {key: architecture[key] for key in ('patch_size', 'image_size', 'in_channels')}
        backbone['arch'] = {key: architecture[key] for key in ('width', 'depth', 'heads')}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ViTClassifier(backbone, num_classes=0, data_preprocessor=dict(
            type='mae_backbone.PixelPreprocessor', mean=architecture['mean'], std=architecture['std']))
        if checkpoint:
            model.backbone.load_weights(checkpoint)
    return model.to(get_device()).eval()


def build_pretrainer(checkpoint: Path) -> MAEPretrainer:
    """Builds a MAE of the size of a pretraining checkpoint, with random weights.

    Only numbers are read from the config in the checkpoint, because class names in an untrusted file could run code.

    Raises:
        CheckpointError: the checkpoint has no decoder, or no config that states its size.
    """
    if checkpoint.is_dir():
        raise CheckpointError(f'{checkpoint} is not a checkpoint of mae-backbone pretrain: it has no decoder to show')
    content = read_content(checkpoint)
    model, architecture = config_in(content).get('model', {}), architecture_in(content, checkpoint)
    if model.get('type') != 'mae_backbone.MAEPretrainer':
        raise CheckpointError(f'{checkpoint} is not a checkpoint of mae-backbone pretrain: it has no decoder to show')
    options: dict[str, Any] = {key: model[key] for key in ('decoder_width', 'decoder_depth', 'decoder_heads')
                               if isinstance(model.get(key), int)}
    if model.get('norm_pix') in (True, False, 'image'):
        options['norm_pix'] = model['norm_pix']
    return MAEPretrainer(architecture.backbone, **options, compile=False, data_preprocessor=dict(
        type='mae_backbone.PixelPreprocessor', mean=architecture.mean, std=architecture.std))


def normalized(model: ViTClassifier, images: Sequence[Tensor]) -> Tensor:
    """Normalizes images as the model expects: B images (C, H, W) uint8 of the same size -> (B, C, H, W)."""
    return model.data_preprocessor({'inputs': list(images)})['inputs']


@torch.no_grad()
def class_attention(vit: ViT, images: Tensor) -> Tensor:
    """Attention of the class token to each patch in the last block, averaged over heads.

    images (B, C, H, W) -> (B, h, w). The weights of an image sum to less than 1, because the attention of the class
    token to itself is not included.
    """
    weights: list[Tensor] = []

    def record(block: nn.Module, arguments: tuple[Any, ...]) -> None:
        attention = cast(Any, block).attn
        tokens = cast(Any, block).norm1(arguments[0])
        # q, k (B, heads, N, d)
        q, k, _ = attention.qkv(tokens).unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q[:, :, :1] @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)
        weights.append(scores[:, :, 0, 1:].mean(dim=1))
    handle = vit.blocks[-1].register_forward_pre_hook(record)
    try:
        grid = vit.check(images)
        vit.encode(vit.embed(images))
    finally:
        handle.remove()
    return weights[0].unflatten(1, grid)


@torch.no_grad()
def principal_maps(vit: ViT | TimmViT, images: Sequence[Tensor]) -> list[Tensor]:
    """First three principal components of the patch features of all images, as RGB colors.

    Images (C, H, W), which may have different sizes -> for each image (h, w, 3) in [0, 1]. Each component is scaled so
    that its 2nd percentile is 0 and its 98th is 1. The sign of a component is arbitrary. It is chosen so that most
    patches are bright.
    """
    maps = [vit.feature_maps(image[None])[0][0].permute(1, 2, 0).float() for image in images]  # each (h, w, D)
    patches = torch.cat([features.flatten(0, 1) for features in maps])
    centered = patches - patches.mean(dim=0)
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -3:].flip(1)
    values = centered @ directions
    values = values * torch.where(values.median(dim=0).values < 0, -1.0, 1.0)
    sample = values[::max(1, len(values) // 100_000)]  # torch.quantile accepts at most 16 million values
    low, high = torch.quantile(sample, torch.tensor([0.02, 0.98], device=values.device), dim=0)
    scaled = ((values - low) / (high - low).clamp(min=1e-8)).clamp(0, 1)
    colors = scaled.split([features[..., 0].numel() for features in maps])
    return [color.unflatten(0, features.shape[:2]) for color, features in zip(colors, maps, strict=True)]
