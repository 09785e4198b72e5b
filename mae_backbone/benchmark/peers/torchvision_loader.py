"""torchvision's ImageFolder, with the transforms of the public MAE code."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL
import torchvision
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mae_backbone.benchmark.peers.peer import LoaderPeer
from mae_backbone.benchmark.reference_loader import MEAN, STD
from mae_backbone.data.sampler import Draw


class TorchvisionLoader(LoaderPeer):
    """`ImageFolder`, `RandomResizedCrop` and so on, as in MAE's `main_pretrain.py`."""

    title = package = 'torchvision'

    def dataset(self, root: str, image_size: int) -> Dataset:
        """The images in class folders. Raises ValueError if there are none."""
        return image_folder(root, transform(image_size))

    def names(self, dataset: Any) -> list[str]:
        """Paths."""
        return [path for path, _ in dataset.samples]

    def load_batch(self, dataset: Any, draws: Sequence[Draw]) -> Tensor:
        """Loads crops of these images. The crops come from torch's random numbers."""
        return default_collate([dataset[draw.index][0] for draw in draws])

    def settings(self) -> dict[str, object]:
        """Versions."""
        return {'decoder': f'Pillow {PIL.__version__}, torchvision {torchvision.__version__}',
                'batch': 'float32 planes, flipped and normalized'}


def transform(image_size: int) -> Any:
    """The transforms of pretraining: crops, flips, and normalized planes of float32."""
    from torchvision import transforms
    return transforms.Compose([
        transforms.RandomResizedCrop(image_size, scale=(0.2, 1.0), interpolation=transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def image_folder(root: str, transform: Any) -> Any:
    """torchvision's data set of class folders. Raises ValueError if `root` has none."""
    from torchvision.datasets import ImageFolder
    if not Path(root).is_dir():
        raise ValueError(f'{root} is no folder of images, which the reference needs: give --baseline-root, or '
                         '--against plain')
    try:
        return ImageFolder(root, transform)
    except FileNotFoundError as error:
        raise ValueError(f"torchvision's ImageFolder takes images in class folders, CLASS/*.jpg: {error}. Move the "
                         'images into a folder below, or use --against plain') from error
