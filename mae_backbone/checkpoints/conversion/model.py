"""Representation of a model in a checkpoint that does not depend on the layout: weights, architecture and origin."""
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple

from torch import Tensor

from mae_backbone.core.vit import ARCHS, Arch

# Prefixes of the names of a MAE decoder, as in the public MAE code.
_DECODER = ('mask_token', 'decoder_')
# Prefixes of the names of the head of a classifier: pooling, norms and the linear layer.
_HEAD = ('attention.', 'fc_norm.', 'head_norm.', 'head.')


@dataclass(frozen=True)
class Architecture:
    """All settings that are needed to build a model, without its weights.

    Attributes:
        width, depth, heads: width, number of blocks and number of attention heads of the encoder.
        patch_size: height and width of a patch in pixels.
        grid: (h, w) in patches, for which position embeddings are stored.
        in_channels: number of channels of the images.
        class_token, final_norm: True if the encoder has a class token, or a norm after the last block.
        decoder: size of the decoder of a MAE; None if there is none.
        norm_pix: target of the MAE, as in `core.mae.MAE`.
        mask_ratio: fraction of the patches that the MAE hides.
        pool: pooling of a classifier, as in `ViTClassifier`; None for other models.
        classes: names of the classes of a classifier; empty if they are unknown.
        window_size: side of attention windows in patches; 0 without windows, None if the file does not state it.
        global_blocks: indices of the blocks without windows.
        shifted_windows: True if the windows of every second block are shifted.
        mean, std: normalization of each channel, on the scale of the pixels; empty if the file does not state it.
    """

    width: int
    depth: int
    heads: int
    patch_size: int
    grid: tuple[int, int]
    in_channels: int = 3
    class_token: bool = True
    final_norm: bool = True
    decoder: Arch | None = None
    norm_pix: bool | str = True
    mask_ratio: float = 0.75
    pool: str | None = None
    classes: tuple[str, ...] = ()
    window_size: int | None = 0
    global_blocks: tuple[int, ...] = ()
    shifted_windows: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def name(self) -> str | None:
        """Name of the architecture in `ARCHS`; None for any other size."""
        size = Arch(self.width, self.depth, self.heads)
        return next((name for name, arch in ARCHS.items() if arch == size), None)

    @property
    def image_size(self) -> tuple[int, int]:
        """Image size (H, W) in pixels for which position embeddings are stored."""
        return self.grid[0] * self.patch_size, self.grid[1] * self.patch_size

    @property
    def pixel_scale(self) -> float | None:
        """Value of a white pixel: 255, or 65535 for 16 bits; None if mean and std are unknown."""
        if not self.mean:
            return None
        return 255.0 if max(self.mean) <= 255 else 65535.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as values of JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> 'Architecture':
        """Inverse of `to_dict`. Raises ValueError or TypeError if the values do not describe an architecture."""
        known = {item.name for item in fields(cls)}
        options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                   for key, value in values.items() if key in known}
        if options.get('decoder') is not None:
            options['decoder'] = Arch(*options['decoder'])
        architecture = cls(**options)
        architecture.check()
        return architecture

    def check(self) -> None:
        """Raises ValueError if an attribute has a wrong type or value, because metadata may come from any file."""
        numbers = [self.width, self.depth, self.heads, self.patch_size, self.in_channels, *self.grid,
                   *(self.decoder or ()), *self.global_blocks, self.window_size or 0]
        floats = [self.mask_ratio, *self.mean, *self.std]
        if (not all(isinstance(number, int) and number >= 0 for number in numbers) or len(self.grid) != 2
                or not all(isinstance(number, (int, float)) for number in floats) or not 0 <= self.mask_ratio < 1
                or self.norm_pix not in (True, False, 'image') or self.pool not in (None, 'mean', 'class', 'attention')
                or not all(isinstance(name, str) for name in self.classes)):
            raise ValueError(f'not the architecture of a ViT: {self}')


class Origin(NamedTuple):
    """Origin of weights.

    Attributes:
        file: name of the file or folder.
        sha256: SHA-256 of the file, or of each weight file of a folder, joined by '+'.
        layout: name of the layout of the file.
        license: license of the weights, as an identifier of the Hugging Face hub; None if it is unknown.
        license_source: text about where the license is stated.
        earlier: if the file is the result of a conversion, the origin of the weights before it.
    """

    file: str
    sha256: str
    layout: str
    license: str | None = None
    license_source: str = ''
    earlier: dict[str, Any] | None = None


@dataclass
class StoredModel:
    """Weights of a model with the names of the public MAE code, and its architecture and origin.

    Attributes:
        weights: encoder (`patch_embed.`, `cls_token`, `pos_embed`, `blocks.`, `norm.`), decoder (`mask_token`,
            `decoder_*`), and head (`attention.`, `fc_norm.`, `head_norm.`, `head.`) in one dict.
        architecture: architecture of the model.
        origin: origin of the weights.
        others: other weights with the names in the file, such as the heads of a detector.
        notes: notes for the user about how the file was read.
        training: facts about the training for the model card, by label.
        results: rows of the table of `mae-backbone transfer`, see `transfer_results`.
    """

    weights: dict[str, Tensor]
    architecture: Architecture
    origin: Origin
    others: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    training: dict[str, str] = field(default_factory=dict)
    results: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def encoder(self) -> dict[str, Tensor]:
        """Weights of the encoder."""
        return {name: value for name, value in self.weights.items() if part_of(name) == 'encoder'}

    @property
    def decoder(self) -> dict[str, Tensor]:
        """Weights of the decoder of a MAE."""
        return {name: value for name, value in self.weights.items() if part_of(name) == 'decoder'}

    @property
    def head(self) -> dict[str, Tensor]:
        """Weights of a classifier without its encoder."""
        return {name: value for name, value in self.weights.items() if part_of(name) == 'head'}

    @property
    def num_classes(self) -> int:
        """Number of classes of a classifier; 0 for other models."""
        return len(self.weights['head.weight']) if 'head.weight' in self.weights else 0

    def only_encoder(self) -> 'StoredModel':
        """Returns the encoder without decoder, head and the other parts of a detector.

        If a classifier has its last norm after the pooling (`fc_norm`), it becomes the norm of the encoder, as in
        `load_encoder`.
        """
        weights, notes = self.encoder, list(self.notes)
        removed = sorted({_first_part(name) for name in [*self.decoder, *self.head, *self.others]})
        final_norm = self.architecture.final_norm
        if not final_norm and self.architecture.class_token and 'fc_norm.weight' in self.weights:
            weights |= {f'norm.{name}': self.weights[f'fc_norm.{name}'] for name in ('weight', 'bias')}
            final_norm = True
            notes.append('fc_norm, which the classifier has after its pooling, becomes the norm before the pooling')
        if removed:
            notes.append(f'left out: {", ".join(removed)}')
        architecture = replace(self.architecture, decoder=None, pool=None, classes=(), final_norm=final_norm)
        return replace(self, weights=weights, architecture=architecture, others={}, notes=notes)


def part_of(name: str) -> str:
    """Returns the part of a model to which a name of the public MAE code belongs: 'encoder', 'decoder' or 'head'."""
    if name.startswith(_DECODER):
        return 'decoder'
    return 'head' if name.startswith(_HEAD) else 'encoder'


def relative_tables(names: Iterable[str]) -> list[str]:
    """Returns the names of tables of relative positions, as in detectron2 (`rel_pos_h`) or BEiT."""
    return [name for name in names if name.endswith(('.rel_pos_h', '.rel_pos_w', '.relative_position_bias_table'))]


def _first_part(name: str) -> str:
    return 'decoder' if part_of(name) == 'decoder' else name.split('.')[0]
