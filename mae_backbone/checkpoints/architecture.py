"""Determines the architecture of the ViT in a checkpoint from its weights and the metadata of the file."""
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mae_backbone.checkpoints.facts import IMAGENET
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.source import Source, open_source, source_in
from mae_backbone.checkpoints.unseen import heads_of_tables, usual_heads
from mae_backbone.core.vit import ARCHS

_LOG = logging.getLogger(__name__)


class EncoderArchitecture(NamedTuple):
    """Sizes of an encoder, and the normalization of its input.

    Attributes:
        name: name of the architecture in `mae_backbone.core.vit.ARCHS`; None if it has none.
        width, depth, heads: width, number of blocks and number of attention heads of the transformer.
        patch_size: height and width of a patch in pixels.
        image_size: height and width in pixels of the images for which `pos_embed` is stored.
        in_channels: number of channels of the images.
        mean, std: normalization of the pixels for each channel, on the scale of 0 to 255.
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


def read_architecture(path: str | Path) -> EncoderArchitecture:
    """Returns the architecture of the ViT in a file or folder of any layout, without reading its tensors.

    The number of heads cannot be determined from the shapes of the weights. If the file does not state it, it is taken
    from the architecture in `ARCHS` with the same width and depth. If there is none, one head per 64 channels is
    assumed (ViT paper, table 1), and a warning is logged.

    Raises:
        FileNotFoundError: the file does not exist.
        CheckpointError: the file is not a checkpoint, or has no ViT.
    """
    return architecture_of(open_source(path, outline=True))


def architecture_in(content: object, path: str | Path) -> EncoderArchitecture:
    """Returns the architecture of the ViT in the content of the file at `path`. Errors as in `read_architecture`."""
    return architecture_of(source_in(content, path))


def architecture_of(source: Source) -> EncoderArchitecture:
    """Returns the architecture of the ViT of a `Source`. Raises CheckpointError if it has no `pos_embed` or blocks."""
    weights = source.encoder(check=False)
    patch, positions = weights.get('patch_embed.proj.weight'), weights.get('pos_embed')
    depth = len({name.split('.')[1] for name in weights if name.startswith('blocks.')})
    if patch is None or positions is None or not depth:
        raise CheckpointError(f'{source.path} has no pos_embed or no blocks of a ViT: pass a checkpoint of a ViT')
    width, channels, patch_size = len(patch), patch.shape[1], patch.shape[-1]
    facts = source.facts
    mean, std = IMAGENET if channels == 3 else ((127.5,) * channels, (63.75,) * channels)
    return EncoderArchitecture(
        name=next((name for name, arch in ARCHS.items() if (arch.width, arch.depth) == (width, depth)), None),
        width=width, depth=depth, heads=_num_heads(source, weights, width, depth), patch_size=patch_size,
        image_size=patch_size * _grid_side(positions), in_channels=channels, mean=facts.mean or mean,
        std=facts.std or std)


def _grid_side(positions: Tensor) -> int:
    """Returns the side of the grid of pos_embed (1, 1 + h*w, D) in patches: the rounded square root of h * w."""
    return round(math.sqrt(positions.shape[1] - 1))


def _num_heads(source: Source, weights: Mapping[str, Tensor], width: int, depth: int) -> int:
    stated = heads_of_tables(weights, width) or source.facts.heads
    if stated is not None:
        return stated
    named = any((arch.width, arch.depth) == (width, depth) for arch in ARCHS.values())
    heads = usual_heads(width, depth) or max(1, width // 64)
    if not named:
        _LOG.warning('%s does not state the number of attention heads: using %d, one per 64 channels', source.path,
                     heads)
    return heads
