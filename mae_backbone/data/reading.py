"""Reads image files of a data set: color images as `decode` does, or bands by a reader."""
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from mae_backbone.data.decode import DEFAULT, BadImageError, Decoding, decode, read_image
from mae_backbone.data.files import IMAGE_SUFFIXES, read_file
from mae_backbone.data.readers import ArrayReader, BandReader, ColorReader, TiffReader
from mae_backbone.data.shown_bands import to_shown
from mae_backbone.registry import TRANSFORMS

# How the images of a data set are read: options of color images, or a reader of bands.
Reading: TypeAlias = Decoding | BandReader
# Readers that a checkpoint or exported file may use, with their options.
_READERS: dict[str, type[ArrayReader] | type[TiffReader]] = {'ArrayReader': ArrayReader, 'TiffReader': TiffReader}
_READER_OPTIONS = ('channels', 'dtype', 'max_pixels', 'shown', 'channels_first')


def reading_in(config: Any) -> Reading:
    """Returns the decoding of the images of a part of a config, from the `reader` of its data set or `LoadImage`.

    Raises:
        ValueError: the options of the reader are out of range.
    """
    if isinstance(config, dict):
        if isinstance(config.get('reader'), dict):
            return reading_of(TRANSFORMS.build(dict(config['reader'])))
        if config.get('type') == 'mae_backbone.LoadImage':
            return TRANSFORMS.build(dict(config)).decoding
        if config.get('color_type') in ('color_ignore_orientation', 'unchanged'):  # of LoadImageFromFile
            return Decoding(ignore_orientation=True)
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        return next((reading for value in config if (reading := reading_in(value)) is not DEFAULT
                     and reading != DEFAULT), DEFAULT)
    return DEFAULT


def reading_of(reader: Any) -> Reading:
    """Returns the `Decoding` of a `ColorReader`, and other readers unchanged."""
    return reader.decoding if isinstance(reader, ColorReader) else reader


def is_color(reading: Reading) -> bool:
    """True if the pixels have the format of photographs: three channels with 8 bits, in RGB order."""
    return isinstance(reading, Decoding) or reading.is_color


def reader_settings(reader: BandReader) -> dict[str, Any] | None:
    """Name and options of a reader as plain values, for `build_reader`; None for a reader that is not of this package.
    """
    name = next((name for name, kind in _READERS.items() if type(reader) is kind), None)
    if name is None:
        return None
    options = {'channels': reader.channels if reader.taken is None else list(reader.taken),
               'dtype': reader.dtype.name, 'max_pixels': reader.max_pixels,
               'shown': None if reader.shown is None else list(reader.shown)}
    if isinstance(reader, ArrayReader):
        options['channels_first'] = reader.channels_first
    return {'type': name, **options}


def build_reader(settings: dict[str, Any]) -> BandReader:
    """Builds the reader of `reader_settings`. The settings may come from a file of unknown origin.

    Raises:
        ValueError: another type or option, an option that is out of its range, or a package that is missing.
    """
    kind = _READERS.get(str(settings.get('type')))
    options = {name: value for name, value in settings.items() if name != 'type'}
    unknown = [name for name in options if name not in _READER_OPTIONS]
    if kind is None or unknown:
        raise ValueError(f'the reader {str(settings.get("type"))[:60]!r} is not known' if kind is None else
                         f'the reader has the option {unknown[0][:60]!r}, which is not known')
    try:
        return kind(**options)
    except TypeError as error:
        raise ValueError(f'an option of the reader has another type ({error})') from error


def suffixes_of(reading: Reading) -> tuple[str, ...]:
    """Suffixes of the files, in lower case."""
    return IMAGE_SUFFIXES if isinstance(reading, Decoding) else reading.suffixes


def read_bytes(data: bytes, reading: Reading = DEFAULT) -> np.ndarray:
    """content of an image file -> pixels as `read_pixels`. Raises BadImageError."""
    return decode(data, reading) if isinstance(reading, Decoding) else reading.read(data)


def read_pixels(path: str | Path, reading: Reading = DEFAULT) -> np.ndarray:
    """Reads an image file: (H, W, 3) uint8 RGB, or (H, W, channels) of a reader.

    Raises:
        BadImageError, OSError: the file cannot be read.
    """
    if isinstance(reading, Decoding):
        return read_image(path, reading)
    data = read_file(path)
    try:
        return read_bytes(data, reading)
    except BadImageError as error:
        raise BadImageError(f'{path} {error}') from error


def read_shown(path: str | Path, reading: Reading = DEFAULT) -> np.ndarray:
    """Reads an image file as a person sees it: (H, W, 3) uint8 RGB. Raises as `read_pixels`."""
    return shown(read_pixels(path, reading), reading)


def shown(pixels: np.ndarray, reading: Reading = DEFAULT) -> np.ndarray:
    """pixels (H, W, C) of `read_pixels` -> (H, W, 3) uint8 RGB."""
    if isinstance(reading, Decoding) or (pixels.shape[-1] == 3 and reading.channels != 3):  # shown already
        return to_shown(pixels)
    return to_shown(pixels, reading.shown)
