"""Models of other libraries against ours: random weights, features of the same images, and the largest difference."""
from pathlib import Path

import torch
from helpers.small_vit import SIZE, vit
from torch import Tensor, nn

from mae_backbone.checkpoints.encoder import load_encoder
from mae_backbone.core.vit import ViT

LIMIT = 1e-5  # largest difference of features of size 1, in float32


def randomize(model: nn.Module) -> nn.Module:
    """Gives every parameter random values, so that no part can be missing without a difference."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1)
        else:
            nn.init.normal_(parameter, mean=float(name.endswith('weight')), std=0.2)
    model.eval()  # those of mmseg return None
    return model


def images(size: int = SIZE) -> Tensor:
    """Two random images (2, 3, H, W)."""
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def tokens_of(path: Path, model: ViT | None = None, **options) -> Tensor:
    """The tokens (2, 1 + L, D) that our ViT computes with the weights of a file."""
    model = vit() if model is None else model
    load_encoder(model, path, **options)
    return model.encode(model.embed(images()))


def assert_agree(title: str, ours: Tensor, theirs: Tensor, limit: float = LIMIT) -> None:
    """Prints a row of the table in docs/weights.md and checks that features agree."""
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1, 'features that are nearly constant show nothing'
    difference = (ours - theirs).abs().max().item()
    print(f'| {title} | {difference:.1e} |')
    assert difference <= limit, f'{title}: {difference}'
