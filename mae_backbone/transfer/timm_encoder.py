"""Architecture of a timm model, in the same form as the architecture of our ViTs."""
from typing import Any

from mae_backbone.checkpoints.architecture import EncoderArchitecture
from mae_backbone.core.vit import ARCHS
from mae_backbone.planning.timm_backbone import build_empty


def timm_architecture(options: dict[str, Any]) -> dict[str, Any]:
    """Returns an `EncoderArchitecture` as a dict, with an additional key 'timm'.

    Its value has the arguments of `TimmViT` under 'options', and under 'pooling' the pooling of the model in timm:
    'class' for a class token or an attention pooling, and 'mean' for the mean of the patches.

    Args:
        options: arguments of `TimmViT`, with its name.

    Raises:
        ValueError: timm has no such model, or does not accept an option.
    """
    options = dict(options)
    vit = build_empty(options['name'], {key: value for key, value in options.items() if key != 'name'})
    width, depth, heads = vit.arch
    known = next((name for name, arch in ARCHS.items() if (arch.width, arch.depth) == (width, depth)), None)
    architecture = EncoderArchitecture(
        name=known, width=width, depth=depth, heads=heads, patch_size=vit.patch_size,
        image_size=vit.patch_size * min(vit.grid), in_channels=vit.in_channels, mean=vit.mean, std=vit.std)
    by_itself = getattr(vit.vit, 'global_pool', '') in ('token', 'map') or vit.cls_token is None
    return {**architecture._asdict(), 'timm': {'options': options, 'pooling': 'class' if by_itself else 'mean'}}


def probe_size(image_size: int | None, architecture: dict[str, Any]) -> int:
    """Returns the image size of a probe: the size of the suite or of the encoder, for timm rounded to whole patches."""
    size = image_size or architecture['image_size']
    if 'timm' not in architecture:
        return size
    return max(1, round(size / architecture['patch_size'])) * architecture['patch_size']
