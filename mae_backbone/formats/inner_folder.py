"""Finds the folder of the data inside of an unpacked archive or of a project."""
import os
from itertools import islice
from pathlib import Path

from mae_backbone.data.files import IMAGE_SUFFIXES

# Largest numbers of entries and folders of a folder that are read to find its only folder with images.
_MAX_LISTED, _MAX_FOLDERS = 5000, 20
_MAX_IMAGES = 5  # largest number of images next to the only folder, such as a picture of results


def only_folder(folder: Path) -> Path | None:
    """Returns the only folder with images in a folder, such as dataset/ of an unpacked archive or project.

    Returns None if there are several folders with images, or more than a few images next to the folder.
    """
    entries = [entry for entry in islice(os.scandir(folder), _MAX_LISTED)
               if not entry.name.lower().startswith(('.', '__macosx'))]
    if sum(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries if entry.is_file()) > _MAX_IMAGES:
        return None
    outer = {folder.resolve(), *folder.resolve().parents}  # a link may lead back to them
    folders = [Path(entry.path) for entry in entries if entry.is_dir() and Path(entry.path).resolve() not in outer]
    if len(folders) > 1:
        folders = [inner for inner in folders[:_MAX_FOLDERS] if has_images(inner)]
    return folders[0] if len(folders) == 1 else None


def has_images(folder: Path) -> bool:
    """True if a folder or its subfolders contain an image file."""
    return any(name.lower().endswith(IMAGE_SUFFIXES) for _, _, names in os.walk(folder) for name in names)
