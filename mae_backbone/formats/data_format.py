"""Base class of the formats of labeled data sets."""
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
from mmengine.config import ConfigDict

from mae_backbone.data.reading import Reading, reading_in
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec
from mae_backbone.formats.exif_orientation import MAX_IMAGES, count_votes
from mae_backbone.formats.files import decode_sample, evenly_spaced
from mae_backbone.formats.image_headers import StoredSize, read_sizes
from mae_backbone.formats.messages import does_not_exist
from mae_backbone.utils.palette import Color, class_colors

UNDERSTOOD = ("a data set in COCO's format (CocoDataset), label maps (BaseSegDataset), or class folders "
              '(mae_backbone.ClassFolder)')


class ClassNames(NamedTuple):
    """Class names of a data set in the order of the labels, and their source."""

    names: list[str]
    origin: str


class DataFormat:
    """A data set of a config, with methods for the format of its files.

    The base class is used for data sets in an unknown format. It has no class names and no checks, and raises an error
    when a subset or the images are requested. To add a format, write a subclass, override the methods that the format
    supports, and add the class to `registry.FORMATS`.

    Args:
        spec: settings of the data set.
    """

    # Names of data set classes that read this format, with the methods that read the files. A subclass that overrides
    # one of these methods reads other files, and is therefore not of this format.
    dataset_types: ClassVar[dict[str, tuple[str, ...]]] = {}

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec

    @classmethod
    def detect(cls, spec: DatasetSpec) -> bool:
        """True if the class of a data set reads this format."""
        return any(base.__name__ in cls.dataset_types
                   and all(getattr(spec.cls, method) is getattr(base, method)
                           for method in cls.dataset_types[base.__name__])
                   for base in (spec.cls.__mro__ if spec.cls else ()))

    def prepare(self) -> list[str]:
        """Changes the config so that the libraries can read the files. Returns lines for the plan."""
        return []

    # ---- classes

    def classes(self) -> ClassNames:
        """Returns the class names in the data; no names if the data do not exist or have no class names.

        Raises:
            DataError: the file with the class names is damaged.
        """
        return ClassNames([], '')

    def set_classes(self, names: list[str]) -> list[str]:
        """Writes class names into the config of the data set. Returns lines for the plan."""
        return []

    # ---- checks

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Refuses data that cannot be used. Returns lines for the plan.

        Args:
            masks: True if the run needs segmentations of objects.
            labels: True if the run needs labels; False if predictions are only written to a file.

        Raises:
            DataError: the data cannot be used for training or testing.
        """
        return [f'{self.spec.split}: {self.spec.type_name} in {self.spec.root}: not checked']

    def label_warnings(self) -> list[str]:
        """Returns warnings about labels that are not used, and about classes that cannot be learned.

        Call `check` first, which refuses labels that cannot be read.
        """
        return []

    def check_evaluator(self, evaluator: ConfigDict, name: str) -> None:
        """Checks that an evaluator of the config reads the labels of this data set.

        Args:
            evaluator: settings of the evaluator.
            name: key of the evaluator in the config.

        Raises:
            DataError: the evaluator would compare predictions with the labels of other images.
        """

    def unused_images(self, num_images: int) -> list[str]:
        """Returns a line for the plan if `indices` in the config restricts the data set to some of its images."""
        indices = self.spec.option('indices')
        if indices is None:
            return []
        num_used = len(indices) if isinstance(indices, (list, tuple)) else min(abs(int(indices)), num_images)
        return [f'{self.spec.split}: only {num_used:,} of {num_images:,} images are used (indices in the config)']

    @cached_property
    def reading(self) -> Reading:
        """Settings with which the images are decoded."""
        return reading_in(self.spec.cfg)

    def check_root(self) -> None:
        """Refuses a root that is not a folder.

        Raises:
            DataError: the root does not exist or is a file.
        """
        root = self.spec.root
        if not root or os.path.isdir(root):
            return
        if os.path.exists(root.rstrip('/')):
            raise DataError(f'{root} is a file, expected the folder of the data: unpack it if it is an archive, and '
                            'pass the folder with --data-root DIR')
        raise DataError(f'{does_not_exist(root)}: pass the folder of the data with --data-root DIR')

    def read_image_sizes(self) -> tuple[dict[str, StoredSize], list[str]]:
        """Reads the sizes of all images, and decodes some of them.

        Returns:
            The sizes by path, and a line for the plan if images are rotated by their EXIF orientation.

        Raises:
            DataError: an image cannot be read, or labels fit the images only without their EXIF orientation.
        """
        split, paths = self.spec.split, self.images()
        decode_sample(split, paths, self.reading)
        sizes = read_sizes(split, paths, self.reading)
        rotated = {path: size for path, size in sizes.items() if size.orientation != 1}
        if not rotated or self.ignores_orientation:
            return sizes, []
        line = f'{split}: images that are rotated or mirrored by their EXIF orientation when they are read; labels '
        # For images that are rotated by 90 degrees, the stated sizes already show the orientation of the labels.
        unclear = [(path, size.orientation) for path, size in rotated.items()
                   if size.upright == (size.width, size.height)]
        compared = evenly_spaced(unclear, MAX_IMAGES)
        self.read_labels([path for path, _ in compared])
        votes = count_votes(compared, self.outlines)
        if votes.decision == 'stored':
            raise DataError(f'{split}: {len(unclear):,} of {len(sizes):,} images are rotated or mirrored by their EXIF '
                            f'orientation, but annotated as they are stored: {votes.stored} outlines of labels lie on '
                            f'edges of the stored images, {votes.turned} on edges of the rotated ones. Save these '
                            "images again without EXIF orientation, or set color_type='color_ignore_orientation' in "
                            'LoadImageFromFile of all pipelines')
        fit = (f'fit the result ({votes.turned} of {votes.turned + votes.stored} outlines)'
               if votes.decision == 'turned' else
               'are taken to fit the result, which the images do not show: look at the samples of `mae-backbone check`;'
               ' if labels lie elsewhere than objects, save the images again without EXIF orientation')
        if not unclear:
            fit = 'are taken to fit the result'
        return sizes, [f'{line}{fit}: {len(rotated):,}']

    def outlines(self, path: str, size: tuple[int, int]) -> Iterable[np.ndarray]:
        """Yields outlines of the labels of an image of `size` (height, width), each (H, W) bool; none by default."""
        return ()

    @property
    def ignores_orientation(self) -> bool:
        """True if the pipeline reads images as they are stored, without their EXIF orientation."""
        return any(str(step.get('type')).split('.')[-1] in ('LoadImageFromFile', 'LoadImage')
                   and ('ignore_orientation' in str(step.get('color_type')) or step.get('color_type') == 'unchanged'
                        or step.get('ignore_orientation'))
                   for step in self.spec.transforms())

    # ---- a part of the labels

    def subset(self, fraction: float, seed: int) -> str:
        """Restricts the data set in the config to a fraction of its labeled images. Returns a line for the plan.

        Args:
            fraction: fraction of the images, in (0, 1].
            seed: random seed of the selection. For the same seed, a smaller fraction is a subset of a larger one.

        Raises:
            DataError: the data set has no labels, or its format is unknown.
        """
        raise DataError(f'--labels {fraction:g}: {self.spec.type_name} has no labels or is not understood: expected '
                        f'{UNDERSTOOD}')

    # ---- survey

    def images(self) -> list[str]:
        """Lists the paths of all images.

        Raises:
            DataError: the format is unknown, or the files cannot be listed.
        """
        raise DataError(f'{self.spec.split}: {self.spec.type_name} is not understood: expected {UNDERSTOOD}')

    def stated_sizes(self) -> dict[str, tuple[float, float]]:
        """Returns the (width, height) that the annotations state for each image path; empty if they state none."""
        return {}

    def label_maps(self) -> list[str]:
        """Lists the paths of all label maps; empty for formats without any."""
        return []

    def count_pixels(self, path: str) -> np.ndarray:
        """Counts the pixels of each label in a label map: (256,) int64.

        Raises:
            BadImageError: the file cannot be read as a label map.
        """
        raise NotImplementedError

    def statistics(self, pixel_counts: np.ndarray) -> list[str]:
        """Describes the labels: objects, pixels or images of each class. Returns lines for a report.

        Args:
            pixel_counts: (256,) pixels of each label over all label maps.
        """
        return []

    def colors(self) -> dict[str, Color]:
        """Returns the color of each class in figures. Predictions are drawn in the same colors."""
        names = self.spec.class_names
        own = (self.spec.option('metainfo') or {}).get('palette')
        colors = class_colors(len(names), own or getattr(self.spec.cls, 'METAINFO', {}).get('palette'))
        return dict(zip(names, colors, strict=True))

    def class_counts(self, pixel_counts: np.ndarray) -> dict[str, int]:
        """Counts the objects, pixels or images of each class, in the order of the labels; empty without labels.

        Args:
            pixel_counts: (256,) pixels of each label over all label maps, for formats with label maps.
        """
        return {}

    def objects(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the path of each image and its boxes (N, 5) float32: x, y, width, height in pixels, and the label.

        Boxes that training ignores are skipped. Yields nothing for formats without boxes.
        """
        yield from ()

    @property
    def has_masks(self) -> bool:
        """True if every object has a usable mask; False for formats without objects."""
        return False

    def read_labels(self, paths: Sequence[str]) -> None:
        """Reads the labels of some images together, for `draw` and `outlines`, which otherwise read them one by one."""

    def draw(self, image: np.ndarray, path: str) -> np.ndarray:
        """Draws the labels of the image at `path` onto its pixels (H, W, 3) uint8 RGB. Returns (H', W', 3)."""
        return image
