"""A layout of labeled data on disk: how it is recognized and read."""
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mae_backbone.formats.files import refuse_faulty_text
from mae_backbone.formats.layouts.labeled_set import LabeledSet

_NUM_ENTRIES = 2000  # files of a folder that are examined to recognize a layout


class Layout(NamedTuple):
    """A layout.

    Attributes:
        name: name of the layout in messages, such as 'Pascal VOC'.
        detect: whether a folder seems to have this layout. It reads a few files only.
        read: reads a folder with this layout. Raises DataError for labels that cannot be used.
    """

    name: str
    detect: Callable[[Path], bool]
    read: Callable[[Path], LabeledSet]


def label_files(root: Path, patterns: Sequence[str], has_labels: Callable[[Path], bool]) -> list[Path]:
    """Returns all files with labels that match one of the patterns, sorted.

    Returns none if none of the first files of a pattern has labels, so that large folders are recognized quickly.
    """
    if not any(has_labels(path) for pattern in patterns for path in first_files(root, pattern)):
        return []
    return sorted(path for path in {path for pattern in patterns for path in root.glob(pattern)}
                  if not path.name.startswith('.') and has_labels(path))


def refuse_faulty_files(root: Path, patterns: Sequence[str]) -> None:
    """Raises DataError for a file that matches a pattern and is empty or not text in UTF-8.

    No layout would recognize its labels.
    """
    for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
        if not path.name.startswith('.'):
            refuse_faulty_text(path)


def first_files(folder: Path, pattern: str, count: int = 20, *, with_content: bool = False) -> Iterator[Path]:
    """Yields the first files that match a pattern; hidden files, and empty ones if `with_content`, are left out."""
    matches = (path for path in islice(folder.glob(pattern), _NUM_ENTRIES) if not path.name.startswith('.')
               and not (with_content and path.is_file() and not path.stat().st_size))
    return islice(matches, count)
