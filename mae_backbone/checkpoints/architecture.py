"""Architecture of the ViT in a checkpoint, from its weights and the config that it carries."""
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.encoder import encoder_weights
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.checkpoints.state_dicts import weights_in
from mae_backbone.core.vit import ARCHS

_LOG = logging.getLogger(__name__)

# Mean and standard deviation that torchvision uses, for checkpoints that do not state theirs.
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


class Architecture(NamedTuple):
    """Everything that is needed to build an encoder.

    Attributes:
        name: its name in `mae_backbone.core.vit.ARCHS`, if it has one.
        width, depth, heads: size of the transformer.
        patch_size: side of a patch in pixels.
        image_size: side in pixels of the images that `pos_embed` was made for.
        in_channels: number of channels of the images.
        mean, std: normalization of the pixels, per channel.
    """

    name: str | None
    width: int
    depth: int
    heads: int
    patch_size: int
    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def backbone(self) -> dict[str, Any]:
        """Arguments of `ViTBackbone`."""
        return dict(arch=dict(width=self.width, depth=self.depth, heads=self.heads), patch_size=self.patch_size,
                    image_size=self.image_size, in_channels=self.in_channels)


def architecture_in(content: object, path: Path) -> Architecture:
    """Returns the architecture of the ViT in the content of a checkpoint.

    Weights do not show the number of heads. If the checkpoint carries no config, the number is taken from the named
    architecture of the same width and depth, or one head per 64 channels (ViT paper, table 1), which is logged.

    Raises:
        CheckpointError: the file is not a checkpoint, or holds no ViT.
    """
    weights, _ = encoder_weights(weights_in(content, path), path)
    patch, positions = weights['patch_embed.proj.weight'], weights.get('pos_embed')
    depth = len({name.split('.')[1] for name in weights if name.startswith('blocks.')})
    if positions is None or not depth:
        raise CheckpointError(f'{path} has no pos_embed or no blocks of a ViT: pass a checkpoint of a ViT')
    width, patch_size = len(patch), patch.shape[-1]
    model = _as_dict(config_in(content).get('model'))
    encoder = _as_dict(model.get('encoder')) or _as_dict(model.get('backbone'))
    preprocessor = _as_dict(model.get('data_preprocessor'))
    channels = patch.shape[1]
    default = _IMAGENET if channels == 3 else ((127.5,) * channels, (63.75,) * channels)
    return Architecture(
        name=next((name for name, arch in ARCHS.items() if (arch.width, arch.depth) == (width, depth)), None),
        width=width, depth=depth, heads=_num_heads(encoder, width, depth, path), patch_size=patch_size,
        image_size=patch_size * _grid_side(positions), in_channels=channels,
        mean=tuple(preprocessor.get('mean', default[0])), std=tuple(preprocessor.get('std', default[1])))


def read_architecture(path: Path) -> Architecture:
    """Reads a checkpoint and returns the architecture of its ViT (`architecture_in`)."""
    return architecture_in(read_content(path), path)


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _grid_side(positions: Tensor) -> int:
    """pos_embed (1, 1 + h*w, D) -> side of its square grid, or of the square with about as many patches."""
    return round(math.sqrt(positions.shape[1] - 1))


def _num_heads(encoder: dict[str, Any], width: int, depth: int, path: Path) -> int:
    arch = encoder.get('arch')
    if isinstance(arch, dict) and isinstance(arch.get('heads'), int):
        return arch['heads']
    named = ARCHS[arch] if isinstance(arch, str) and arch in ARCHS else None
    named = named or next((arch for arch in ARCHS.values() if (arch.width, arch.depth) == (width, depth)), None)
    if named is not None:
        return named.heads
    heads = max(1, width // 64)
    _LOG.warning('%s does not state the number of attention heads: using %d, one per 64 channels', path, heads)
    return heads
