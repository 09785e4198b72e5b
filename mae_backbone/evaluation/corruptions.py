"""Image corruptions of ImageNet-C at five strengths, seeded per image.

The corruptions come from the package `imagecorruptions`, which mmdet's dependency imaug installs. Corrupting a set
on the fly gives numbers close to, but not the same as, the published files, which were cropped and stored as JPEG.
"""
import contextlib
import io
import zlib
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.evaluation.imagenet_c import CORRUPTIONS, STRENGTHS

SMALLEST = 32  # pixels of the shorter side: what `imagecorruptions` accepts
_SEEDED = ('impulse_noise', 'glass_blur')  # they take a seed instead of using NumPy's global generator


def corrupt(image: np.ndarray, name: str, strength: int, *, seed: int = 0, index: int = 0) -> np.ndarray:
    """Corrupts an image. The result is a function of the arguments; NumPy's global random state is restored.

    At 224 pixels zoom_blur takes about 0.3 s per image on one CPU core, glass_blur 0.2 s after numba compiled it once
    (some 10 s), the others 0.1 s or less.

    Args:
        image: (H, W, 3) uint8 RGB, both sides at least 32 pixels.
        name: one of `CORRUPTIONS`.
        strength: from 1 to 5.
        seed: random seed of the whole data set.
        index: of the image in the data set.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: unknown corruption or strength, or an image that is too small.
    """
    check_corruption(name, strength)
    if min(image.shape[:2]) < SMALLEST:
        raise ValueError(f'an image of {image.shape[0]}x{image.shape[1]} pixels cannot be corrupted, expected at least '
                         f'{SMALLEST}x{SMALLEST}: set a larger image_size in the test dataset of the config')
    corruptions = _import_corruptions()
    image_seed = int(np.random.SeedSequence((seed, index, strength, zlib.crc32(name.encode()))).generate_state(1)[0])
    state = np.random.get_state()
    np.random.seed(image_seed)
    try:
        # Some print that they cut an odd row off.
        with contextlib.redirect_stdout(io.StringIO()):
            corrupted = corruptions.corrupt(np.ascontiguousarray(image), severity=strength, corruption_name=name,
                                            **{'seed': image_seed} if name in _SEEDED else {})
    finally:
        np.random.set_state(state)
    return np.array(corrupted)  # a copy: some of them are read-only


def _import_corruptions() -> ModuleType:
    """Imports `imagecorruptions` when it is needed: it takes a second, most of it for numba."""
    try:
        import imagecorruptions
    except ImportError as error:
        raise ImportError(f'corruptions need the package imagecorruptions, which cannot be imported ({error}): '
                          'pip install imagecorruptions-imaug') from error
    return imagecorruptions


def check_corruption(name: str, strength: int) -> None:
    """Raises ValueError for an unknown corruption or strength."""
    if name not in CORRUPTIONS or strength not in STRENGTHS:
        raise ValueError(f'corruption {name!r} of strength {strength}, expected one of {", ".join(CORRUPTIONS)} with a '
                         'strength from 1 to 5')


class CorruptedImages(Dataset):
    """A data set whose images are corrupted after its transform.

    Args:
        dataset: its items are dict(inputs=uint8 (3, H, W), ...).
        name: of the corruption.
        strength: from 1 to 5.
        seed: an image's corruption depends on it, the index of the image, `name` and `strength`.
    """

    def __init__(self, dataset: Dataset, name: str, strength: int, *, seed: int = 0) -> None:
        # Refuses mistakes, and compiles glass_blur once, before a DataLoader forks its workers.
        corrupt(np.zeros((SMALLEST, SMALLEST, 3), np.uint8), name, strength)
        self.dataset, self.name, self.strength, self.seed = dataset, name, strength, seed

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # torch's Dataset declares no __len__

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        item = self.dataset[index]
        image = item['inputs'].permute(1, 2, 0).numpy()
        corrupted = corrupt(image, self.name, self.strength, seed=self.seed, index=index)
        return {**item, 'inputs': torch.from_numpy(corrupted).permute(2, 0, 1).contiguous()}
