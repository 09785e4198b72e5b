"""Architecture of an encoder that is a model of timm, in the form of the architecture of our ViTs."""
from typing import Any

from mae_backbone.checkpoints.architecture import EncoderArchitecture
from mae_backbone.core.vit import ARCHS
from mae_backbone.planning.timm_backbone import build_empty


def timm_architecture(options: dict[str, Any]) -> dict[str, Any]:
    """Returns an `EncoderArchitecture` as a dict, with what is special to a model of timm under 'timm'.

    'timm' has the arguments of `TimmViT` under 'options'. Under 'pooling' it has the pooling of features that the model
    has in timm: 'class' for a class token or the pooling of the model, and 'mean' for the mean of the patches.

    Args:
        options: arguments of `TimmViT`, with its name.

    Raises:
        ValueError: timm has no such model, or refuses an option.
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
    """Side of the images of a probe: of the suite, or of the encoder; a model of timm gets whole patches."""
    size = image_size or architecture['image_size']
    if 'timm' not in architecture:
        return size
    return max(1, round(size / architecture['patch_size'])) * architecture['patch_size']
