"""Images, splits and classes of a data folder of a user, and the settings of its data sets in a config."""
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mae_backbone.data.files import list_images
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.inner_folder import has_images
from mae_backbone.formats.unlabeled import UnlabeledImages


@dataclass
class OwnData:
    """A data folder of a user.

    Attributes:
        task: one of `TASKS`.
        root: absolute path of the folder.
        splits: format of each split by its name, 'train' first. Data for pretraining have only 'train'.
        classes: names of the classes in the order of the labels; empty for pretraining.
        notes: messages for the user about how the data are read.
        written: settings for a config by split, for data in a layout that is converted to annotation files in the
            cache. They name the user's folder, not the cache: the converted files are written again on the machine of
            the training.
        group_pattern: regular expression. Images with the same match in their names are put into the same split if a
            validation split is made. '' if not given.
        warnings: messages for the user about labels that are not used.
        reader: config of the reader of images with other channels or bits; None for gray and color images of 8 bits.
    """

    task: str
    root: str
    splits: dict[str, DataFormat]
    classes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    group_pattern: str = ''
    warnings: list[str] = field(default_factory=list)
    reader: dict[str, Any] | None = None

    def dataset(self, split: str) -> dict[str, Any]:
        """Returns the settings of the data set of a split for a config."""
        return self.written.get(split) or self.splits[split].spec.cfg.to_dict()

    def image_paths(self, split: str) -> list[str]:
        """Returns the absolute paths of the images of a split."""
        data_format = self.splits[split]
        if isinstance(data_format, UnlabeledImages):
            return unlabeled_images(data_format.spec.root)
        return [os.path.abspath(path) for path in data_format.images()]


def with_classes(task: str, folder: Path, splits: dict[str, DataFormat], **options: Any) -> OwnData:
    """Returns the data set, with the classes of the training split set in all splits."""
    classes = splits['train'].classes().names
    for data_format in splits.values():
        data_format.set_classes(classes)
    return OwnData(task, str(folder), splits, classes, **options)


def unlabeled_images(root: str | os.PathLike) -> list[str]:
    """Returns the absolute paths of the image files in a folder and its subfolders.

    If there are no image files, returns the paths of NumPy arrays (.npy).
    """
    folder = Path(os.path.abspath(root))
    arrays = sorted(map(str, array_files(folder))) if not has_images(folder) else []
    return arrays or [os.path.abspath(path) for path in list_images(folder)]


def array_files(folder: Path) -> Iterator[Path]:
    """The NumPy arrays in a folder and its subfolders."""
    return folder.rglob('*.npy')
