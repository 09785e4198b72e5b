"""Base class of targets: the parts that a layout can store, how files are written, and how its library runs them."""
import abc
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mae_backbone.checkpoints.conversion.model import StoredModel, relative_tables
from mae_backbone.checkpoints.layouts.layout import Layout
from mae_backbone.checkpoints.layouts.rules import inward
from mae_backbone.checkpoints.reading import CheckpointError


class ConversionError(CheckpointError):
    """A model cannot be stored in the layout of a target, or its conversion is wrong."""


class NotInstalledError(ImportError):
    """The library of a target is not installed."""


class Result(NamedTuple):
    """Content of the files to write.

    Attributes:
        tensors: weights with the names of the target.
        config: content of `config.json` of a folder; for a file, the config with which its library builds the model.
        metadata: metadata with source, license and verification.
        files: texts of other files of a folder, by file name.
    """

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    metadata: dict[str, Any]
    files: dict[str, str] = {}  # noqa: RUF012  # a NamedTuple has no mutable state of the class

    @property
    def size(self) -> int:
        """Number of bytes of the weights."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


class Target(abc.ABC):
    """Base class of the layouts in which models are written. Subclasses have no state.

    Attributes:
        name: name of the target for `--to`.
        title: name of the target for messages.
        layout: rename table of the tensors.
        library: import name of the package that runs the result for verification.
        package: name with which pip installs `library`.
        suffixes: allowed suffixes of the file; empty if the result is a folder.
        holds_decoder, holds_head, holds_relative_positions, holds_windows, holds_convolutions, holds_batch_norm: True
            if the layout can store this part. A decoder or head that cannot be stored is not written. For other parts
            that cannot be stored, the conversion is refused.
        needs_class_token, needs_norm, needs_square: True if the layout requires a class token, a norm after the last
            block, or a square grid of patches.
        pools: poolings of a classifier that the layout supports, with the names of `ViTClassifier`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    layout: ClassVar[Layout]
    library: ClassVar[str]
    package: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    holds_decoder: ClassVar[bool] = False
    holds_head: ClassVar[bool] = True
    holds_relative_positions: ClassVar[bool] = False
    holds_windows: ClassVar[bool] = False
    holds_convolutions: ClassVar[bool] = False
    holds_batch_norm: ClassVar[bool] = False
    needs_class_token: ClassVar[bool] = True
    needs_norm: ClassVar[bool] = True
    needs_square: ClassVar[bool] = True
    pools: ClassVar[tuple[str, ...]] = ('class',)

    # --- parts that the layout can store

    def problems(self, model: StoredModel) -> list[str]:
        """Parts of a model that the target cannot store, each with the fix; empty if it can store all parts."""
        architecture, names = model.architecture, model.weights.keys()
        problems = []
        if model.others:
            parts = sorted({name.split('.')[0] for name in model.others})
            problems.append(f'{", ".join(parts[:6])}, which are no parts of a ViT, a MAE or a classifier: pass '
                            '--encoder to convert only the encoder, or --to safetensors')
        if relative_tables(names) and not self.holds_relative_positions:
            problems.append(f'relative positions ({relative_tables(names)[0]}): use --to detectron2 or '
                            '--to safetensors')
        if architecture.window_size != 0 and not self.holds_windows:
            size = '' if architecture.window_size is None else f' of {architecture.window_size} patches'
            problems.append(f'attention in windows{size}: use --to detectron2 or --to safetensors')
        if any('.residual.' in name for name in names) and not self.holds_convolutions:
            problems.append('convolutions at the end of blocks: use --to detectron2 or --to safetensors')
        if not architecture.class_token and self.needs_class_token:
            problems.append('no class token: use --to timm, --to detectron2 or --to safetensors')
        if not architecture.final_norm and self.needs_norm and 'fc_norm.weight' not in names:
            problems.append('no norm after the last block: use --to timm, --to detectron2 or --to safetensors')
        if architecture.grid[0] != architecture.grid[1] and self.needs_square:
            problems.append(f'positions of {architecture.grid[0]}x{architecture.grid[1]} patches, which are not '
                            'square: use --to timm or --to safetensors')
        return problems + self._problems_of_head(model)

    def _problems_of_head(self, model: StoredModel) -> list[str]:
        if not model.head or not self.holds_head:
            return []
        problems, pool = [], model.architecture.pool
        if pool not in self.pools:
            here = {'mean': 'the mean of the patch tokens', 'class': 'the class token', 'attention': 'attention'}
            problems.append(f'pooling by {here.get(str(pool), pool)} (it can hold: '
                            f'{", ".join(here[pool] for pool in self.pools)}): pass --encoder to leave the head out, '
                            'or use another target')
        if 'head_norm.running_mean' in model.weights and not self.holds_batch_norm:
            problems.append('the BatchNorm of a linear probe: pass --encoder to leave the head out, or use --to mae')
        return problems

    def reduced(self, model: StoredModel) -> StoredModel:
        """Returns the model without the parts that are not written to this layout."""
        return model.only_encoder() if not self.holds_decoder and model.decoder and not model.head else model

    # --- names

    def tensors(self, model: StoredModel) -> dict[str, Tensor]:
        """Returns the weights of a model with the names of the target."""
        return self.layout.from_ours(model.weights)

    def back(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inverse of `tensors`. Each conversion is checked with it."""
        head = {ours: step(tensors) for ours, step in inward(self.layout.head, tensors).items()}
        return self.layout.to_ours(tensors) | head

    # --- files

    @abc.abstractmethod
    def config(self, model: StoredModel) -> dict[str, Any]:
        """Returns the config with which the library of the target builds the model."""

    def files(self, model: StoredModel) -> dict[str, str]:
        """Returns the texts of other files of a folder, by file name."""
        return {}

    @abc.abstractmethod
    def write(self, result: Result, path: Path) -> None:
        """Writes the result to the file `path`, or into `path`, an empty folder."""

    @abc.abstractmethod
    def usage(self, model: StoredModel, path: str | Path) -> str:
        """Returns code that loads the result."""

    # --- verification

    @abc.abstractmethod
    def outputs(self, model: StoredModel, path: Path, images: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Computes the outputs of the result with the library of the target.

        Args:
            model: model that was converted.
            path: path of the result.
            images: (B, C, H, W).
            noise: (B, L). The order of the values determines the mask of a MAE.

        Returns:
            Outputs with the names and shapes of `build.our_outputs`.

        Raises:
            NotInstalledError: the library is not installed.
        """

    def version(self) -> str:
        """Returns name and version of the library of the target. Raises NotInstalledError if it is not installed."""
        try:
            return f'{self.package} {importlib.metadata.version(self.package)}'
        except importlib.metadata.PackageNotFoundError:
            raise NotInstalledError(f'{self.package} is not installed') from None


def random_inputs(model: StoredModel, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Returns inputs for the verification: images (B, C, H, W) from a standard normal distribution, and noise (B, L).

    They are the same in each call.
    """
    generator = torch.Generator().manual_seed(0)
    architecture = model.architecture
    images = torch.randn(batch, architecture.in_channels, *architecture.image_size, generator=generator)
    return images, torch.rand(batch, architecture.grid[0] * architecture.grid[1], generator=generator)
