"""Finds the folder with the data in a folder around it, such as an unpacked archive or a project."""
import os
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.registry import find_layout
from mae_backbone.formats.messages import first_few

# Largest numbers of entries and folders of a folder that are examined. Class folders may be more.
_MAX_LISTED, _MAX_FOLDERS = 5000, 20
_MAX_IMAGES = 5  # largest number of images next to the folders, such as a picture of results


class InnerFolder(NamedTuple):
    """Folder with the data in another one.

    Attributes:
        path: the folder.
        others: names of the folders next to it that have images and no labels.
    """

    path: Path
    others: list[str]


def inner_folder(folder: Path) -> InnerFolder | None:
    """Returns the only folder with labels of objects in a folder, or else its only folder with images.

    Returns None if there are several folders with images and no labels, or more than a few images next to them.

    Raises:
        DataError: several folders have labels.
    """
    entries = [entry for entry in islice(os.scandir(folder), _MAX_LISTED)
               if not entry.name.lower().startswith(('.', '__macosx'))]
    if sum(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries if entry.is_file()) > _MAX_IMAGES:
        return None
    outer = {folder.resolve(), *folder.resolve().parents}  # a link may lead back to them
    folders = sorted(Path(entry.path) for entry in entries
                     if entry.is_dir() and Path(entry.path).resolve() not in outer)
    if len(folders) == 1:
        return InnerFolder(folders[0], [])
    folders = [inner for inner in folders[:_MAX_FOLDERS] if has_images(inner)]
    labeled = [inner for inner in folders if find_layout(inner)]
    if len(labeled) > 1:
        raise DataError(f'{folder} has no labels, but several of its folders have '
                        f'({first_few(inner.name for inner in labeled)}): pass one of them')
    if labeled or len(folders) == 1:
        path = (labeled or folders)[0]
        return InnerFolder(path, [inner.name for inner in folders if inner != path])
    return None


def has_images(folder: Path) -> bool:
    """True if a folder or its subfolders contain an image file."""
    return any(name.lower().endswith(IMAGE_SUFFIXES) for _, _, names in os.walk(folder) for name in names)
