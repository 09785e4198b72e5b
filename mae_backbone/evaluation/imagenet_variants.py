"""Image sets other than the training set's own: ImageNet-A, -R, -Sketch, -V2, -C, and any folder laid out like them."""
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.data.decode import read_image
from mae_backbone.data.files import entries, list_images, packed
from mae_backbone.evaluation.imagenet_c import STRENGTHS

STRENGTH_FOLDERS = tuple(map(str, STRENGTHS))  # as ImageNet-C names them
_DEPTH = 3  # folders between a set and its classes: ImageNet-C has noise/gaussian_noise/1


class ImageSet(NamedTuple):
    """An image set: its name, its folder, and the label of each class folder in it."""

    name: str
    folder: Path
    labels: dict[str, int]

    @property
    def is_corrupted(self) -> bool:
        """True if the folder is one strength of a corruption, laid out as ImageNet-C."""
        return self.folder.absolute().name in STRENGTH_FOLDERS


def find_sets(folder: str | Path, classes: Sequence[str]) -> list[ImageSet]:
    """Finds the image sets under a folder, in the layouts of ImageNet's variants.

    A set is a folder of folders that are named after classes, all or some of them (ImageNet-A, -R and -Sketch: WordNet
    ids), or after the indices of classes (ImageNetV2: 0 to 999). It may be up to three folders deep (ImageNet-C).

    Args:
        folder: of one set or several.
        classes: names of the classes of the model, in the order of their labels.

    Raises:
        OSError: the folder does not exist.
        ValueError: the folder has no set, or a set has folders that are not classes of the model.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f'{root.absolute()} is not a folder: give the folder of a set, such as imagenet-a, or '
                                'of several')
    sets = list(_sets(root, root.absolute().name, classes, _DEPTH))
    if not sets:
        names = sorted(entry.name for entry in entries(root) if entry.is_dir())
        raise ValueError(f'{root} has no class folders: expected some of {", ".join(classes[:4])}, ..., or their '
                         f'indices from 0 to {len(classes) - 1}; its folders are {", ".join(names[:4]) or "none"}. '
                         'Give a folder with class folders')
    return sets


def _sets(folder: Path, name: str, classes: Sequence[str], depth: int) -> Iterator[ImageSet]:
    """Yields the sets in a folder, in the order of their names."""
    names = sorted(entry.name for entry in entries(folder) if entry.is_dir())
    labels = class_labels(names, classes, folder)
    if labels:
        yield ImageSet(name, folder, labels)
    elif depth:
        for inner in names:
            yield from _sets(folder / inner, f'{name}/{inner}', classes, depth - 1)


def class_labels(names: Sequence[str], classes: Sequence[str], folder: Path) -> dict[str, int]:
    """Maps folder names to labels; empty if they are not classes. Raises ValueError if only some of them are."""
    label = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(names) - set(label))
    if len(unknown) < len(set(names)):
        if unknown:
            raise ValueError(f'{folder} has {len(unknown)} folders that are not among the {len(classes)} classes of '
                             f'the model ({", ".join(unknown[:4])}): move them away, or use a model with these classes')
        return {name: label[name] for name in names}
    # Strengths are numbers too, but contain folders.
    indices = all(name.isdecimal() and int(name) < len(classes) for name in names)
    if names and indices and not any(entry.is_dir() for entry in entries(folder / names[0])):
        return {name: int(name) for name in names}
    return {}


class SetImages(Dataset):
    """Images of a set. An item is dict(inputs=the transformed image, data_samples=label)."""

    def __init__(self, image_set: ImageSet, transform: Callable[[np.ndarray], Tensor]) -> None:
        files = {name: list_images(image_set.folder / name) for name in image_set.labels}
        self.files = packed(path for paths in files.values() for path in paths)
        self.labels = np.repeat([*image_set.labels.values()], [len(paths) for paths in files.values()])
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        image = read_image(os.fsdecode(self.files[index]))
        return {'inputs': self.transform(image), 'data_samples': int(self.labels[index])}


def skip_if_cropped(transform: Callable[[np.ndarray], Tensor],
                    size: tuple[int, int]) -> Callable[[np.ndarray], Tensor]:
    """Returns a transform that keeps images (H, W, 3) of that size unchanged, as uint8 (3, H, W).

    Images of ImageNet-C were resized to 256 pixels and cropped to 224 before they were corrupted
    (`make_imagenet_c.py`). Its authors' `test.py` does not resize them again, which would magnify them.
    """
    return lambda image: torch.from_numpy(image).permute(2, 0, 1) if image.shape[:2] == size else transform(image)


def files_fingerprint(files: np.ndarray, labels: np.ndarray) -> str:
    """Hash of labeled files: their names, sizes, modification times and labels."""
    digest = hashlib.sha256()
    for name in files:
        try:
            status = os.stat(name)
            digest.update(b'%s %d %d\0' % (name, status.st_size, status.st_mtime_ns))
        except OSError:  # inside a shard, so that the name has to do; or deleted
            digest.update(b'%s\0' % name)
    digest.update(np.ascontiguousarray(labels).tobytes())
    return digest.hexdigest()
