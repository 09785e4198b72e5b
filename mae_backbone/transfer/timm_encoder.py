"""Architecture of a timm model, in the same form as the architecture of our ViTs."""
from typing import Any

from mae_backbone.checkpoints.architecture import EncoderArchitecture
from mae_backbone.core.vit import ARCHS
from mae_backbone.planning.timm_backbone import build_empty


def timm_architecture(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the architecture of a timm model: an `EncoderArchitecture` as a dict, with the additional key 'timm'.

    The value of 'timm' is a dict with 'options', the arguments of `TimmViT`, and 'pooling', the pooling that the model
    has in timm: 'class' for the class token or attention pooling, and 'mean' for the mean of the patches.

    Args:
        options: arguments of `TimmViT`, including 'name'.

    Raises:
        ValueError: timm has no model of this name, or the model does not accept an option.
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
    """Returns the height and width in pixels of the images of a probe.

    Args:
        image_size: `Suite.image_size`; None for the image size of the encoder.
        architecture: architecture of the encoder. For a timm model, the size is rounded to a multiple of the patch
            size.
    """
    size = image_size or architecture['image_size']
    if 'timm' not in architecture:
        return size
    return max(1, round(size / architecture['patch_size'])) * architecture['patch_size']
