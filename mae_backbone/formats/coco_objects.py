"""Compact lists of the objects and ids of an annotation file in COCO's format."""
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

Id = int | str


class IdList:
    """Ids in 8 bytes per integer. Unlike a list, it does not keep the parsed numbers of a large file in memory."""

    def __init__(self) -> None:
        self._numbers, self._texts = array('q'), list[str]()

    def append(self, value: Id) -> None:
        """Adds an id, an integer of 64 bits or text."""
        if isinstance(value, str):
            self._texts.append(value)
        else:
            self._numbers.append(value)

    def __len__(self) -> int:
        return len(self._numbers) + len(self._texts)

    def __iter__(self) -> Iterator[Id]:
        """Yields the integers, and then the texts."""
        yield from self._numbers
        yield from self._texts


@dataclass
class TrainedObjects:
    """N objects, in the order of the annotation file."""

    _boxes: 'array[float]' = field(default_factory=lambda: array('f'))
    _areas: 'array[float]' = field(default_factory=lambda: array('d'))
    _images: 'array[int]' = field(default_factory=lambda: array('l'))
    _categories: 'array[int]' = field(default_factory=lambda: array('l'))

    def add(self, annotation: dict, image: int, category: int) -> None:
        """Adds an object.

        Args:
            annotation: its entry in the file.
            image: position of its image in the file, from 0.
            category: position of its category in the file, from 0.
        """
        self._boxes.extend(annotation['bbox'])
        self._areas.append(annotation['area'])
        self._images.append(image)
        self._categories.append(category)

    @property
    def boxes(self) -> np.ndarray:
        """Boxes (N, 4) float32: x, y, width, height in pixels."""
        return np.array(self._boxes, np.float32).reshape(-1, 4)

    @property
    def areas(self) -> np.ndarray:
        """Areas (N,) that the file states, in pixels."""
        return np.array(self._areas, np.float64)

    @property
    def images(self) -> np.ndarray:
        """Position (N,) of the image of each object in the file, from 0."""
        return np.array(self._images, np.int64)

    @property
    def categories(self) -> np.ndarray:
        """Position (N,) of the category of each object in the file, from 0."""
        return np.array(self._categories, np.int64)
