"""Sets of images beside that of the training, and which of its classes their folders stand for."""
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.data.decode import read_image
from mae_backbone.data.files import entries, list_images, packed

STRENGTHS = ('1', '2', '3', '4', '5')  # the folders in which ImageNet-C has them
# Of ImageNet-C, beside the 15 corruptions of its paper: to choose by, and not in its mean.
EXTRA = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
_DEPTH = 3  # folders between that of a set and those of its classes: ImageNet-C has noise/gaussian_noise/1


class ImageSet(NamedTuple):
    """A set: its name, and for each of its folders the label of a class."""

    name: str
    folder: Path
    labels: dict[str, int]

    @property
    def is_corrupted(self) -> bool:
        """Whether it is one strength of a corruption, laid out as ImageNet-C."""
        return self.folder.absolute().name in STRENGTHS


def find_sets(folder: str | Path, classes: Sequence[str]) -> list[ImageSet]:
    """The sets under a folder, in the layouts in which ImageNet's relatives come.

    A set is a folder of folders that are named like classes, all or some of them (ImageNet-A, -R and -Sketch: WordNet
    ids), or by the numbers of classes (ImageNetV2: 0 to 999). It may stand up to three folders deep (ImageNet-C).

    Args:
        folder: of one set or several.
        classes: names of the classes of the model, in the order of their labels.

    Raises:
        OSError: there is no such folder.
        ValueError: no set in it, or one with folders that stand for no class.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f'{root.absolute()} is no folder: give the folder of a set, such as imagenet-a, or of '
                                'several')
    sets = list(_sets(root, root.absolute().name, classes, _DEPTH))
    if not sets:
        names = [entry.name for entry in entries(root) if entry.is_dir()]
        raise ValueError(f'{root} holds no folders of classes: wanted some of {", ".join(classes[:4])}, ..., or their '
                         f'numbers from 0 to {len(classes) - 1}; there are {", ".join(sorted(names)[:4]) or "none"}. '
                         'Give a folder of such folders')
    return sets


def _sets(folder: Path, name: str, classes: Sequence[str], depth: int) -> list[ImageSet]:
    names = sorted(entry.name for entry in entries(folder) if entry.is_dir())
    labels = class_map(names, classes, folder)
    if labels:
        return [ImageSet(name, folder, labels)]
    return [one for inner in names for one in _sets(folder / inner, f'{name}/{inner}', classes, depth - 1)
            ] if depth else []


def class_map(names: Sequence[str], classes: Sequence[str], folder: Path) -> dict[str, int]:
    """Names of folders -> labels; none where they are not about classes. Raises ValueError where only some are."""
    label = {name: i for i, name in enumerate(classes)}
    known = [name for name in names if name in label]
    if known:
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise ValueError(f'{folder} has {len(unknown)} folders that are none of the {len(classes)} classes of the '
                             f'model ({", ".join(unknown[:4])}): move them away, or pass the model of these classes')
        return {name: label[name] for name in names}
    # Strengths are numbers too, but hold folders.
    numbers = all(name.isdecimal() and int(name) < len(classes) for name in names)
    if names and numbers and not any(entry.is_dir() for entry in entries(folder / names[0])):
        return {name: int(name) for name in names}
    return {}


class SetImages(Dataset):
    """The images of a set; an item is dict(inputs=what the transform makes of it, data_samples=label)."""

    def __init__(self, one: ImageSet, transform: Callable[[np.ndarray], Tensor]) -> None:
        files = {name: list_images(one.folder / name) for name in one.labels}
        self.files = packed(path for paths in files.values() for path in paths)
        self.labels = np.repeat([*one.labels.values()], [len(paths) for paths in files.values()])
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        image = read_image(os.fsdecode(self.files[index]))
        return {'inputs': self.transform(image), 'data_samples': int(self.labels[index])}


def unless_cut_out(transform: Callable[[np.ndarray], Tensor], size: tuple[int, int]) -> Callable[[np.ndarray], Tensor]:
    """A transform that leaves images (H, W, 3) of that size as they are -> uint8 (3, H, W).

    Those of ImageNet-C were resized to 256 pixels and cut to 224 before they were corrupted (`make_imagenet_c.py`), and
    its authors' `test.py` does not resize them again, which would magnify them.
    """
    return lambda image: torch.from_numpy(image).permute(2, 0, 1) if image.shape[:2] == size else transform(image)


def fingerprint(files: np.ndarray, labels: np.ndarray) -> str:
    """What tells labeled files from any others: their names, sizes, times of the last change, and labels."""
    digest = hashlib.sha256()
    for name in files:
        try:
            status = os.stat(name)
            digest.update(b'%s %d %d\0' % (name, status.st_size, status.st_mtime_ns))
        except OSError:  # in shards, told by its name alone; or gone
            digest.update(b'%s\0' % name)
    digest.update(np.ascontiguousarray(labels))
    return digest.hexdigest()
