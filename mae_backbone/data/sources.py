"""Where the bytes of images come from: folders, lists of files, shards."""
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mae_backbone.data.files import IMAGE_SUFFIXES, list_images, packed


class Source(Protocol):
    """Files in a fixed order. Cheap to pickle and to hold in many processes."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> bytes:
        """All bytes of a file. Raises OSError, with its name, where they cannot be had."""

    def name(self, index: int) -> str:
        """What a message calls it: a path, or that of a shard and what stands in there."""


def open_source(data_root: str | Path, *, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Source:
    """The images of a folder, flat or nested.

    Args:
        data_root: folder, searched with `list_images`.
        suffixes: of the files to take, in lower case: those of the reader.

    Raises:
        ValueError, OSError: what `list_images` raises.
    """
    return FileSource(packed(list_images(data_root, suffixes=suffixes)))


class FileSource:
    """Files by their paths."""

    def __init__(self, paths: np.ndarray) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        return os.fsdecode(self.paths[index])

    def read(self, index: int) -> bytes:
        with open(self.name(index), 'rb', buffering=0) as file:
            return file.read()
