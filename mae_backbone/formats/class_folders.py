"""Format of images with a class each: folders named after classes, a list of paths and classes, or labeled shards."""
import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from mae_backbone.data.files import list_images
from mae_backbone.data.labeled import Labeled, class_folders, class_names, layout, open_labeled
from mae_backbone.data.reading import suffixes_of
from mae_backbone.formats.data_format import ClassNames, DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.drawing import draw_class_name
from mae_backbone.formats.files import decode_sample
from mae_backbone.formats.layouts.map_pairs import no_classes, pairs_among
from mae_backbone.formats.messages import case_hint, does_not_exist, first_few
from mae_backbone.formats.tables import frequency_table
from mae_backbone.utils.palette import Color

_MAX_FOLDERS = 4  # largest number of folders that may be images and label maps instead of classes


class ClassFolders(DataFormat):
    """Images of `mae_backbone.ClassFolder`."""

    dataset_types: ClassVar = {'ClassFolder': ()}

    @property
    def split_name(self) -> str:
        """Name of the folder, list or shards of the split; '' if the class folders are directly in the root."""
        return self.spec.option('split') or ''

    @property
    def folder(self) -> Path:
        """Folder of the class folders."""
        return Path(self.spec.root, self.split_name)

    # ---- classes

    def classes(self) -> ClassNames:
        """Returns the names of the class folders, or of the classes in a list or shards."""
        names, config_names = self.names_on_disk(), self.spec.config_class_names
        if names and set(config_names) == set(names):
            return ClassNames(config_names, 'the config')
        return ClassNames(names, str(self.folder))

    def names_on_disk(self) -> list[str]:
        """Returns the class names in the files of this split; empty if there are no files."""
        return class_names(Path(self.spec.root), self.split_name)

    def set_classes(self, names: list[str]) -> list[str]:
        """Writes class names into the config of the data set. Returns no lines."""
        self.spec.cfg.classes = list(names)
        return []

    # ---- checks

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Refuses splits without images, with other classes than training, or with images that cannot be read."""
        if not labels:
            return super().check(masks=masks, labels=labels)
        self.check_root()
        if layout(Path(self.spec.root), self.split_name) != 'folders':
            return self._check_list_or_shards()
        images = self._images_in_folders()
        paths = [path for paths in images.values() for path in paths]
        pairs = pairs_among(paths) if len(images) <= _MAX_FOLDERS else []
        if 4 * len(pairs) > len(paths):  # more than half of the images
            raise DataError(no_classes(self.folder, pairs[0].image, pairs[0].map))
        decode_sample(self.spec.split, paths, self.reading)
        return self._lines([len(paths) for paths in images.values()])

    def _images_in_folders(self) -> dict[str, list[str]]:
        """Returns the images of each class."""
        folder, names = self.folder, self.names_on_disk()
        if not folder.is_dir():
            raise DataError(f'the {self.spec.split} split {does_not_exist(str(folder))}: set split of the data set, or '
                            'pass the folder of the data with --data-root DIR')
        if not names:
            raise DataError(f'{folder} has no class folders: put the images of each class into a folder named after it')
        expected = self.spec.class_names
        missing, extra = sorted(set(expected) - set(names)), sorted(set(names) - set(expected))
        if expected and (missing or extra):
            raise DataError(f'{folder} has other class folders than training: {len(missing)} are missing '
                            f'({first_few(missing)}), {len(extra)} are unknown ({first_few(extra)}): add, rename or '
                            f'remove folders{case_hint(missing, extra)}')
        folders, suffixes = class_folders(Path(self.spec.root), self.split_name), suffixes_of(self.reading)
        images = {name: _images(path, suffixes) for name, path in folders.items()}
        empty = [name for name, paths in images.items() if not paths]
        if empty:
            raise DataError(f'{len(empty)} of the {len(names)} class folders in {folder} contain no images '
                            f'({first_few(empty)}): add images, or remove these folders from all splits')
        return images

    def _check_list_or_shards(self) -> list[str]:
        # `self.labeled` calls `open_labeled`, which refuses classes that the training split does not have.
        if self.labeled.shards is None:
            decode_sample(self.spec.split, [os.fsdecode(name) for name in self.labeled.files], self.reading)
        return self._lines(list(Counter(self.labeled.labels.tolist()).values()))

    def _lines(self, counts: list[int]) -> list[str]:
        """Describes the split by the number of images of each class."""
        split, fraction = self.spec.split, self.spec.option('fraction') or 1.0
        if split == 'train' and len(counts) < 2:
            raise DataError(f'{self.folder} has images of {len(counts)} class, expected two or more: add images of '
                            'another class, such as the background')
        lines = [f'{split}: {sum(counts):,} images of {len(counts)} classes']
        num_used = sum(max(1, round(fraction * count)) for count in counts)  # same rule as in ClassFolder
        if num_used < sum(counts):
            lines.append(f'{split}: only {num_used:,} of {sum(counts):,} images are used (fraction={fraction:g} in the '
                         'config, or --labels)')
        return lines

    def subset(self, fraction: float, seed: int) -> str:
        """Restricts the data set to a fraction of the images of each class, with at least one image per class."""
        self.spec.cfg.update(fraction=fraction, seed=seed)
        return f'labels: {fraction:.4g} of the images of each class in {self.spec.root} (seed {seed})'

    # ---- survey

    @cached_property
    def labeled(self) -> Labeled:
        """Images of the split with their labels. Raises ValueError or OSError if files or classes are missing."""
        return open_labeled(Path(self.spec.root), self.split_name, self.spec.class_names or None,
                            suffixes_of(self.reading))

    @cached_property
    def _class_of_image(self) -> dict[str, str]:
        labeled = self.labeled
        return {os.fsdecode(file): labeled.classes[label]
                for file, label in zip(labeled.files, labeled.labels, strict=True)}

    def images(self) -> list[str]:
        """Lists the paths of all images. Raises DataError for shards, which do not contain image files."""
        if self.labeled.shards is not None:
            raise DataError(f'{self.spec.split}: labeled shards cannot be surveyed: run `mae-backbone pack --verify`, '
                            'which decodes every image of a shard')
        return list(self._class_of_image)

    def statistics(self, pixel_counts: np.ndarray) -> list[str]:
        """Counts the images of each class."""
        return frequency_table(Counter(self._class_of_image.values()), 'images')

    def colors(self) -> dict[str, Color]:
        """Returns no colors, because class names are written above the images."""
        return {}

    def class_counts(self, pixel_counts: np.ndarray) -> dict[str, int]:
        """Counts the images of each class."""
        counts = np.bincount(self.labeled.labels, minlength=len(self.labeled.classes)).tolist()
        return dict(zip(self.labeled.classes, counts, strict=True))

    def draw(self, image: np.ndarray, path: str) -> np.ndarray:
        """Writes the class name above the image."""
        return draw_class_name(image, self._class_of_image[path])


def _images(folder: Path, suffixes: Sequence[str]) -> list[str]:
    try:
        return [str(path) for path in list_images(folder, suffixes)]
    except ValueError:  # The folder contains no images.
        return []
