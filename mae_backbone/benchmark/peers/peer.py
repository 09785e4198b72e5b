"""Interfaces and common functions of peers."""
import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mae_backbone.benchmark.batches import Shape
from mae_backbone.data.sampler import Draw
from mae_backbone.engine.provenance import commit

# Seconds of each part of a training step, and other numbers, such as its loss.
StepResult = tuple[dict[str, float], dict[str, float]]


class MissingPeerError(ValueError):
    """The code of a peer is neither installed nor in the folder of `--peer-root`."""


class Peer(ABC):
    """Another implementation of the same work. Instances can be pickled.

    Args:
        root: checkout of the repository, None for an installed package.

    Attributes:
        title: heading of the column in the tables.
        package: name of the distribution; empty if there is none.
    """

    title: ClassVar[str]
    package: ClassVar[str] = ''

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = None if root is None else Path(root).absolute()

    def load(self) -> None:
        """Imports the code. Raises MissingPeerError."""
        if self.package:
            try:
                import_module(self.package)
            except ImportError as error:
                raise MissingPeerError(f'--against {self.package} needs the package {self.package} ({error}): '
                                       f'python -m pip install {self.package}') from error

    def code(self) -> str:
        """Name and version of the code."""
        return f'{self.package} {version(self.package)}'


class StepPeer(Peer):
    """A MAE in training.

    Attributes:
        attention: 'fused' or 'eager'.
        optimizer: options of torch.optim.AdamW. The default is empty, as in the peers' training scripts.
    """

    attention: ClassVar[str] = 'fused'
    optimizer: ClassVar[dict[str, Any]] = {}

    @abstractmethod
    def build(self, args: argparse.Namespace) -> 'PeerMAE':
        """Builds a MAE of the size in the options of `benchmark step`."""


class PeerMAE(nn.Module, ABC):
    """A MAE of a peer. Subclasses call the peer's own code."""

    @property
    @abstractmethod
    def decoder_embed(self) -> nn.Module:
        """First layer of the decoder."""

    @abstractmethod
    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """images (B, C, H, W) -> loss (). Patches with the lowest noise (B, L) stay visible; None draws the noise."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Weights under the names of the public MAE code."""


class BackbonePeer(Peer):
    """ViTDet's backbone."""

    form: ClassVar[str]  # of the relative positions, for the table

    @abstractmethod
    def build(self, args: argparse.Namespace, size: int, weights: dict[str, Tensor]) -> nn.Module:
        """Builds the backbone for images of `size` pixels with our weights: images -> maps (B, D, h, w), in a tuple."""


class LoaderPeer(Peer):
    """A data set of image files, with the crops and flips of MAE pretraining.

    Attributes:
        same_crops: whether its crops are equal to the crops of our data set. Otherwise they have the same distribution.
    """

    same_crops: ClassVar[bool] = False

    @abstractmethod
    def dataset(self, root: str, image_size: int) -> Dataset:
        """Opens the images in a folder, with square crops of `image_size` pixels."""

    def names(self, dataset: Any) -> list[str]:
        """Names of the files, in order."""
        raise NotImplementedError

    @abstractmethod
    def load_batch(self, dataset: Any, draws: Sequence[Draw]) -> Tensor:
        """Loads float32 (B, 3, H, W), normalized."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Decoder and form of the batch, for the table."""


class TrainPeer(Peer):
    """A model in training, with its own optimizer."""

    @abstractmethod
    def build(self, shape: Shape, device: torch.device, dtype: torch.dtype | None) -> Callable[[], StepResult]:
        """Builds model, optimizer and batch from random numbers. Returns a step on that batch.

        Args:
            shape: of the batch.
            device: to train on.
            dtype: dtype of autocast; None for float32.
        """

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Names of the parts, for the table."""


@contextmanager
def importing_from(root: Path, *, forget: bool = False) -> Iterator[None]:
    """Finds modules in a folder first. With `forget`, those imported from it can be imported from elsewhere later.

    Some checkouts have modules of general names, such as `util`.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before if forget else ():
            if str(root) in str(getattr(sys.modules[name], '__file__', '')):
                del sys.modules[name]


def square(args: argparse.Namespace, title: str) -> int:
    """Side in pixels of `--image-size`. Raises ValueError if the images are not square."""
    if len(set(args.image_size)) != 1:
        raise ValueError(f'--image-size {" ".join(map(str, args.image_size))}: {title} takes square images only, give '
                         'one number')
    return args.image_size[0]


def commit_text(root: Path) -> str:
    """Commit of a checkout, shortened."""
    full, _, dirty = commit(root).partition('-')
    return (full[:10] + ('-dirty' if dirty else '')) or 'of unknown commit'
