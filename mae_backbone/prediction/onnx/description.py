"""Metadata of an exported file: task, classes, normalization and image sizes, stored as strings.

The metadata of a file are untrusted. A value of a wrong type or out of its range raises ValueError.
"""
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from mae_backbone.data.decode import Decoding
from mae_backbone.data.reading import Reading, build_reader

PREFIX = 'mae_backbone.'  # prefix of our keys, because other programs may add keys to the metadata
PT2_METADATA = 'mae_backbone.json'  # entry of a .pt2 file: a JSON object with the same strings
# Highest version of the metadata that this code reads. Version 2 is for files with a `reader`: code that reads only
# version 1 would treat their images as color images.
FORMAT = 2
TASKS = ('detection', 'segmentation', 'classification', 'features')
# Our choices. Limits for values in a file.
MAX_TEXT, MAX_CLASSES, MAX_SIDE, MAX_CHANNELS = 2 ** 22, 100_000, 16384, 1024


@dataclass(frozen=True)
class ClassInfo:
    """A class: its id in the annotations of the training, its name, and its color (red, green, blue)."""

    id: int | str
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class Description:
    """Facts about an exported model.

    Attributes:
        task: 'detection', 'segmentation', 'classification' or 'features'.
        part: exported part: 'model', 'backbone' or 'pyramid'.
        activation: kind of the outputs: 'logits', 'softmax', 'argmax', or '' for features and detectors.
        classes: classes in the order of the labels.
        channels: order of the channels of the input `images`: 'RGB', 'BGR', or '' if the channels are not colors.
        mean, std: mean and standard deviation of each channel in this order, in the unit of the pixels (0 to 255 for 8
            bits); () if pixels are not normalized.
        preprocessing: True if the exported model normalizes its input itself. Its input are then pixels (0 to 255,
            RGB). False if the caller must normalize them with `mean` and `std`.
        image_size: (H, W) of the input in pixels. If the size is dynamic, the image size of the training.
        dynamic: names of the dynamic axes: 'batch', 'size'.
        multiple: height and width of the input must be multiples of this number of pixels.
        minimum: smallest height and width of the input in pixels.
        prepare: preprocessing of an image file, see `prediction.onnx.prepare`.
        decoding: for color images, the fields of `Decoding` that differ from the defaults.
        reader: for images with other channels, type and options of their reader, see `reading.reader_settings`.
        settings: settings of the task, such as thresholds.
        source: versions, commit and results of the training, for information.
    """

    task: str
    part: str = 'model'
    activation: str = ''
    classes: tuple[ClassInfo, ...] = ()
    channels: str = 'RGB'
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    preprocessing: bool = False
    image_size: tuple[int, int] = (0, 0)
    dynamic: tuple[str, ...] = ()
    multiple: int = 1
    minimum: int = 1
    prepare: dict[str, Any] = field(default_factory=dict)
    decoding: dict[str, Any] = field(default_factory=dict)
    reader: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Returns the description as strings for the metadata of a file."""
        values = {f'{PREFIX}{name}': value if isinstance(value, str) else json.dumps(value)
                  for name, value in asdict(self).items()}
        return {f'{PREFIX}format': str(FORMAT if self.reader else 1), **values}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> 'Description':
        """Reads the metadata of a file.

        Raises:
            ValueError: the file was not exported by this package, was exported by a newer version, or its metadata are
                damaged.
        """
        entries = {key.removeprefix(PREFIX): value for key, value in metadata.items() if key.startswith(PREFIX)}
        if not entries:
            raise ValueError('it was not written by `mae-backbone export`: its metadata name neither task nor classes')
        if sum(map(len, entries.values())) > MAX_TEXT:
            raise ValueError(f'its metadata have more than {MAX_TEXT:,} characters')
        number = entries.get('format', '')
        if not number.isdecimal() or not 1 <= int(number[:9]) <= FORMAT:
            raise ValueError(f'its metadata have the format {number[:20]!r}, this version reads up to {FORMAT}: update '
                             'mae_backbone')
        try:
            values = {one.name: _read(one.name, entries[one.name]) for one in fields(cls) if one.name in entries}
            return cls(**values)._checked()
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            raise ValueError(f'its metadata are damaged ({str(error)[:200]}): export the model again') from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(one.name for one in self.classes)

    @property
    def colors(self) -> list[tuple[int, int, int]]:
        """Colors of the classes."""
        return [one.color for one in self.classes]

    def reading(self) -> Reading:
        """Returns the settings with which image files are decoded.

        Raises:
            ValueError: the reader is unknown, or needs a package that is not installed.
        """
        return build_reader(self.reader) if self.reader else self._decoding()

    def _decoding(self) -> Decoding:
        options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                   for key, value in self.decoding.items()}
        return Decoding(**options).check()

    def _checked(self) -> 'Description':
        for name in ('prepare', 'decoding', 'reader', 'settings', 'source'):
            _check(isinstance(getattr(self, name), dict), name, getattr(self, name))
        _check(self.task in TASKS, 'task', self.task)
        _check(self.part in ('model', 'backbone', 'pyramid'), 'part', self.part)
        _check(self.activation in ('', 'logits', 'softmax', 'argmax'), 'activation', self.activation)
        _check(self.channels in ('', 'RGB', 'BGR'), 'channels', self.channels)
        _check(len(self.classes) <= MAX_CLASSES, 'classes', len(self.classes))
        _check(len(self.mean) == len(self.std) <= MAX_CHANNELS and all(map(_is_number, self.mean))
               and all(_is_number(value) and value > 0 for value in self.std), 'mean and std', (self.mean, self.std))
        _check(isinstance(self.preprocessing, bool), 'preprocessing', self.preprocessing)
        channels = self.reader.get('channels', len(self.mean))
        number = channels if isinstance(channels, int) else len(channels)
        _check(not self.mean or not self.reader or len(self.mean) == number, 'mean of the reader', self.mean)
        sides = (*self.image_size, self.multiple, self.minimum)
        _check(len(sides) == 4 and all(type(side) is int and 0 < side <= MAX_SIDE for side in sides), 'sizes', sides)
        _check(set(self.dynamic) <= {'batch', 'size'}, 'dynamic', self.dynamic)
        self._decoding()
        return self


def _read(name: str, text: str) -> Any:
    if name in ('task', 'part', 'activation', 'channels'):
        return text
    value = json.loads(text)
    if name == 'classes':
        return tuple(_class(one) for one in value)
    return tuple(value) if name in ('mean', 'std', 'image_size', 'dynamic') else value


def _class(entry: dict[str, Any]) -> ClassInfo:
    color, number = entry['color'], entry['id']
    _check(isinstance(color, list) and len(color) == 3 and all(type(c) is int and 0 <= c <= 255 for c in color),
           'color', color)
    _check(isinstance(number, (int, str)), 'id', number)
    return ClassInfo(number, str(entry['name']), (color[0], color[1], color[2]))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _check(fits: bool, name: str, value: object) -> None:
    if not fits:
        raise ValueError(f'{name} is {str(value)[:60]}')
