"""Readers of the images that encoders were trained on, such as images with bands or with 16 bits."""
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.config_text import config_in
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.weight_files import open_weights
from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.reading import Reading, reading_in

READERS = ('ColorReader', 'ArrayReader', 'TiffReader')  # of this package. A checkpoint must not choose other code


def stored_reader(path: Path) -> dict[str, Any] | None:
    """Returns the config of the reader in a checkpoint of this package; None for color images with 8 bits.

    Raises:
        CheckpointError: the reader is not of this package.
    """
    config = config_in(open_weights(path, outline=True).content)
    loaders = [config.get(f'{name}_dataloader') for name in ('train', 'test')]
    reader = next((found for loader in loaders if (found := _reader_of(loader))), None)
    if reader is None:
        return None
    name = str(reader.get('type')).removeprefix('mae_backbone.').replace('ColourReader', 'ColorReader')
    if name not in READERS:
        raise CheckpointError(f'{path} was trained on images of {name[:60]}, which is not a reader of this package: '
                              f'transfer reads images by {", ".join(READERS)}')
    reader = {**reader, 'type': f'mae_backbone.{name}'}
    return None if reading_of(reader) == DEFAULT else reader


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


def _reader_of(node: Any) -> dict[str, Any] | None:
    """Reader of the data set of a loader, which may be inside of other data sets."""
    while isinstance(node, dict):
        if isinstance(node.get('reader'), dict):
            return node['reader']
        node = node.get('dataset')
    return None
