"""Commands on data as functions: `mae_backbone.import_data`, `measure` and `pack`.

They call what the command line calls, print what it prints, and raise the errors that it prints.
"""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.cli.python_api import run_command
from mae_backbone.data.mean_std import PixelStatistics
from mae_backbone.formats.import_data import Imported


def import_data(source: str | Path, out: str | Path, *, to: str, link: bool = False,
                group_pattern: str | None = None) -> Imported:
    """Reads a labeled data set in any layout and writes it in another one, as `mae-backbone import` does.

    Args:
        source: folder of the data set.
        out: folder to write, which must not exist or be empty.
        to: layout of the result: 'coco', 'labelmaps', 'folders', 'yolo' or 'voc'.
        link: make links to the images, which must then stay where they are, in place of copies.
        group_pattern: images whose names have the same match stay together if a validation split has to be made.

    Returns:
        Lines about the data that were read, the data that could not be converted, and the next steps.

    Raises:
        ValueError: the data cannot be read, or cannot be written in this layout.
    """
    result: Imported = run_command('import', source, out, to=to, link=link, group_pattern=group_pattern)
    return result


def measure(data: str | Path, *, images: int = 2000, reader: Mapping[str, Any] | None = None) -> PixelStatistics:
    """Measures mean and standard deviation of each channel, as `mae-backbone measure` does.

    Args:
        data: folder of images, list of files (.txt), shard (.tar) or folder of shards.
        images: number of images to read, evenly spaced.
        reader: type and options of a reader, such as {'type': 'mae_backbone.ArrayReader', 'channels': 5}; by default
            color images.

    Raises:
        ValueError: the reader is unknown, or no image can be read.
        OSError: the data cannot be read.
    """
    words = None if reader is None else [str(reader['type']), *(
        f'{name}={value!r}' for name, value in reader.items() if name != 'type')]
    result: PixelStatistics = run_command('measure', data, images=images, reader=words)
    return result


def pack(source: str | Path, out: str | Path, *, short_side: int | None = None, shard_size: int = 1000,
         quality: int = 92, classes: bool = False, workers: int | None = None, verify: bool = False) -> dict[str, Any]:
    """Packs images into tar shards for faster loading, as `mae-backbone pack` does. The same call continues.

    Args:
        source: folder of images, list of files (.txt), shard (.tar) or folder of shards.
        out: folder for the shards.
        short_side: resize larger images to this short side in pixels; None to keep their size.
        shard_size: images per shard.
        quality: of resized JPEGs, 1 to 100.
        classes: keep the class folders as labels.
        workers: processes; by default the number of CPUs.
        verify: decode everything that was packed, and compare checksums.

    Returns:
        The manifest: number of images, shards, and images that cannot be read.

    Raises:
        ValueError: an option is out of its range, or the folder holds shards of other images.
        OSError: the images cannot be read.
    """
    manifest: dict[str, Any] = run_command('pack', source, out, short_side=short_side, shard_size=shard_size,
                                           quality=quality, classes=classes, workers=workers, verify=verify)
    return manifest
