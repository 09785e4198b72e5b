"""lightly's data set, with its transform of MAE."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mae_backbone.benchmark.peers.peer import LoaderPeer
from mae_backbone.data.sampler import Draw


class LightlyLoader(LoaderPeer):
    """`LightlyDataset` and `MAETransform`."""

    title = package = 'lightly'

    def dataset(self, root: str, image_size: int) -> Dataset:
        """Opens the images in a folder. Raises ValueError if `root` is not a folder."""
        from lightly.data import LightlyDataset
        from lightly.transforms import MAETransform
        if not Path(root).is_dir():
            raise ValueError(f'{root} is no folder of images, which the reference needs: give --baseline-root, or '
                             '--against plain')
        return LightlyDataset(root, transform=MAETransform(input_size=image_size))

    def names(self, dataset: Any) -> list[str]:
        """Names relative to the folder."""
        return dataset.get_filenames()

    def load_batch(self, dataset: Any, draws: Sequence[Draw]) -> Tensor:
        """Loads crops of these images, a list of one view each. The crops come from torch's random numbers."""
        return default_collate([dataset[draw.index][0] for draw in draws])[0]

    def settings(self) -> dict[str, object]:
        """Versions."""
        return {'decoder': f'Pillow {PIL.__version__}, {self.code()}',
                'batch': 'float32 planes, flipped and normalized'}
