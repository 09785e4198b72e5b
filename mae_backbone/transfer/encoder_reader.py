"""Readers of the images that encoders were trained on, such as images with bands or with 16 bits."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.weight_files import open_weights
from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.reading import Reading, is_color, reading_in
from mae_backbone.formats.dataset_spec import dicts_in

READERS = ('ColorReader', 'ArrayReader', 'TiffReader')  # of this package. A checkpoint must not choose other code
_COLOR_OPTIONS = ('value_range', 'percentiles', 'max_pixels')  # of `ColorReader`, which `LoadImage` takes too


def stored_reader(path: Path) -> dict[str, Any] | None:
    """Returns the config of the reader in a checkpoint of this package; None for color images with 8 bits.

    Raises:
        CheckpointError: the reader is not of this package.
    """
    return known_reader(config_in(open_weights(path, outline=True).content), path)


def known_reader(config: Mapping[str, Any], source: str | Path) -> dict[str, Any] | None:
    """Returns the config of the reader in the config of a training; None for color images with 8 bits.

    Args:
        config: config of the training.
        source: file of the config, for messages.

    Raises:
        CheckpointError: the reader is not of this package.
    """
    reader = stated_reader(config)
    if reader is None:
        return None
    name = str(reader.get('type')).removeprefix('mae_backbone.').replace('ColourReader', 'ColorReader')
    if name not in READERS:
        raise CheckpointError(f'{source} was trained on images of {name[:60]}, which is not a reader of this package: '
                              f'transfer reads images by {", ".join(READERS)}')
    reader = {**reader, 'type': f'mae_backbone.{name}'}
    return None if reading_of(reader) == DEFAULT else reader


def stated_reader(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the reader that the data of a training state: of a data set, or of `LoadImage` in a pipeline."""
    for part in dicts_in([config.get(f'{name}_dataloader') for name in ('train', 'test')]):
        if isinstance(part.get('reader'), dict):
            return dict(part['reader'])
        options = {name: part[name] for name in _COLOR_OPTIONS if part.get(name) is not None}
        if options and str(part.get('type')).rpartition('.')[2] == 'LoadImage':
            return {'type': 'mae_backbone.ColorReader', **options}
    return None


def check_color(peer: str, reader: dict[str, Any]) -> None:
    """Raises ValueError if a peer, which takes color images, cannot take the images of a reader."""
    name = str(reader.get('type')).rpartition('.')[2]
    if name in READERS and not is_color(reading_of(reader)):
        raise ValueError(f'the peer {peer} takes color images with 8 bits, but the images are read by {name} as '
                         f'{reader.get("channels", 3)} channels of {reader.get("dtype", "uint8")}: remove the task of '
                         'the peer from the suite, or select other tasks with --tasks')


def reading_of(reader: dict[str, Any] | None) -> Reading:
    """Returns the settings of a reader. Raises ValueError if they are out of range."""
    return reading_in(dict(reader=reader))


def with_common_reader(architectures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns architectures that are evaluated on the same data, with the reader of the first one that has one.

    Encoders with another number of channels, or with a reader of their own, do not change.
    """
    owner = next((architecture for architecture in architectures if 'reader' in architecture), None)
    return [architecture if owner is None or architecture['in_channels'] != owner['in_channels']
            else {'reader': owner['reader'], **architecture} for architecture in architectures]
