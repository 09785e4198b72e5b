"""A frozen encoder: built from what is known of it, with its features, attention and dense maps."""
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.core.vit import ViT
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.transfer.encoders import architecture_in, config_in


def build_frozen(architecture: dict, checkpoint: str | Path | None, *, seed: int = 0) -> ViTClassifier:
    """The encoder of an `Architecture` as a model of features, on the device that there is.

    Args:
        architecture: as dict.
        checkpoint: its weights; None draws random ones with `seed`.
        seed: of random weights.

    Raises:
        CheckpointError: the weights do not fit.
    """
    backbone = {key: architecture[key] for key in ('patch_size', 'image_size', 'in_channels')}
    backbone['arch'] = {key: architecture[key] for key in ('width', 'depth', 'heads')}
    if checkpoint:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=str(checkpoint))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ViTClassifier(backbone, num_classes=0, data_preprocessor=dict(
            type='ImgDataPreprocessor', mean=architecture['mean'], std=architecture['std']))
        model.backbone.init_weights()
    return model.to(get_device()).eval()


def build_pretrainer(checkpoint: Path) -> MAEPretrainer:
    """The MAE, with random weights, that fits a checkpoint of tools/pretrain.py, as the config in it says.

    Only numbers are taken from that config: a name of a class in a file of unknown origin could run code.

    Raises:
        CheckpointError: it holds no decoder, or does not say how it was built.
    """
    content = read_content(checkpoint)
    model, architecture = config_in(content).get('model', {}), architecture_in(content, checkpoint)
    sizes = {key: model.get(key) for key in ('decoder_width', 'decoder_depth', 'decoder_heads')}
    stated = {key: value for key, value in sizes.items() if isinstance(value, int)}
    if model.get('type') != 'mae_backbone.MAEPretrainer':
        raise CheckpointError(f'{checkpoint} is no checkpoint of tools/pretrain.py: it has no decoder to show')
    options = {'norm_pix': model['norm_pix']} if model.get('norm_pix') in (True, False, 'image') else {}
    return MAEPretrainer(architecture.backbone, **stated, **options, compile=False, data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=architecture.mean, std=architecture.std))


def normalized(model: ViTClassifier, images: Sequence[Tensor]) -> Tensor:
    """Images (C, H, W) uint8 of one size -> (B, C, H, W) as the model takes them."""
    return model.data_preprocessor({'inputs': list(images)})['inputs']


@torch.no_grad()
def class_attention(vit: ViT, images: Tensor) -> Tensor:
    """images (B, C, H, W) -> (B, h, w): how much the class token looks at each patch in the last block, mean of heads.

    Sums to at most 1 for each image: the rest is what the token looks at itself.
    """
    seen: list[Tensor] = []

    def note(block: nn.Module, arguments: tuple) -> None:
        tokens, attention = block.norm1(arguments[0]), block.attn
        q, k, _ = attention.qkv(tokens).unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        seen.append((q[:, :, :1] @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1)[:, :, 0, 1:].mean(dim=1))
    handle = vit.blocks[-1].register_forward_pre_hook(note)
    try:
        grid = vit.check(images)
        vit.encode(vit.embed(images))
    finally:
        handle.remove()
    return seen[0].unflatten(1, grid)


@torch.no_grad()
def principal_maps(vit: ViT, images: Sequence[Tensor]) -> list[Tensor]:
    """Images (C, H, W) of any sizes -> for each (h, w, 3) in [0, 1]: the three main directions of all their patches.

    Each direction reaches from its 2nd to its 98th percentile; its sign, which means nothing, is the one in which its
    larger part is bright.
    """
    maps = [vit.feature_maps(image[None])[0][0].permute(1, 2, 0).float() for image in images]  # each (h, w, D)
    patches = torch.cat([part.flatten(0, 1) for part in maps])
    centered = patches - patches.mean(dim=0)
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -3:].flip(1)
    values = centered @ directions
    values = values * torch.where(values.median(dim=0).values < 0, -1.0, 1.0)
    some = values[::max(1, len(values) // 100_000)]  # torch.quantile takes no more than 16 million
    low, high = torch.quantile(some, torch.tensor([0.02, 0.98], device=values.device), dim=0)
    colors = ((values - low) / (high - low).clamp(min=1e-8)).clamp(0, 1).split([part[..., 0].numel() for part in maps])
    return [color.unflatten(0, part.shape[:2]) for color, part in zip(colors, maps, strict=True)]
