"""Classes and splits of images from the names of their folders, such as dataset/train/cat/1.jpg."""
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from mae_backbone.formats.layouts.folder_names import outside_projects
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES


class FolderClass(NamedTuple):
    """Class and split of an image; '' if its folders do not name them."""

    name: str
    split: str


def classes_of_folders(names: Iterable[str]) -> dict[str, FolderClass]:
    """Returns the class and split of each image by its path.

    The first folder of a path that is no split and not shared by all images names the class. A folder is a split if it
    has the name of a split, such as train, or if a folder next to it differs only in the name of the split, such as
    seg_train and seg_test. If only one of several folders has splits with several folders of images, such as dataset/
    next to runs/ in the folder of a project, the images outside of it have no class. Neither have the images of folders
    such as docs/ and results/ (`PROJECT_FOLDERS`) next to others.

    Args:
        names: paths relative to the root, with '/'.
    """
    folders = {name: list(PurePosixPath(name).parts[:-1]) for name in names}
    splits = dict.fromkeys(folders, '')
    data = _data_folder(folders.values())
    if data:
        inside = {name.removeprefix(f'{data}/'): name for name in folders if name.startswith(f'{data}/')}
        found = {inside[name]: value for name, value in classes_of_folders(inside).items()}
        return dict.fromkeys(folders, FolderClass('', '')) | found
    data_names = outside_projects(folders)
    if len(data_names) < len(folders):
        return dict.fromkeys(folders, FolderClass('', '')) | classes_of_folders(data_names)
    while outer := _outer_folders(folders.values()):
        for name, parts in folders.items():
            if parts and parts[0] in outer:
                split = outer[parts.pop(0)]
                splits[name] = splits[name] or split
    result = {}
    for name, parts in folders.items():
        # A split may also be in a class: cat/train/1.jpg.
        inner = [SPLIT_NAMES[part.lower()] for part in parts[:2] if part.lower() in SPLIT_NAMES]
        classes = [part for part in parts if part.lower() not in SPLIT_NAMES]
        result[name] = FolderClass(classes[0] if classes else '', splits[name] or (inner[0] if inner else ''))
    return result


def _data_folder(paths: Iterable[list[str]]) -> str:
    """Returns the only one of several folders that has splits with several folders of images; '' if there is none."""
    inner: dict[str, set[str]] = defaultdict(set)
    for parts in paths:
        if parts:
            inner[parts[0]] |= {parts[2]} if len(parts) > 2 and parts[1].lower() in SPLIT_NAMES else set()
    found = [folder for folder, classes in inner.items() if len(classes) > 1 and folder.lower() not in SPLIT_NAMES]
    return found[0] if len(found) == 1 and len(inner) > 1 else ''


def _outer_folders(paths: Iterable[list[str]]) -> dict[str, str]:
    """Returns the first folders of the paths that are no classes, and their splits; {} if all may be classes."""
    paths = list(paths)
    outer = {parts[0] for parts in paths if parts}
    by_rest: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for folder in outer:
        split, rest = _split_and_rest(folder)
        if split:
            by_rest[rest][folder] = split
    splits = {folder: split for group in by_rest.values() if len({*group.values()}) > 1 and 'train' in group.values()
              for folder, split in group.items()}
    if not splits and len(outer) == 1 and all(len(parts) > 1 for parts in paths):
        return {folder: SPLIT_NAMES.get(folder.lower(), '') for folder in outer}
    return splits


def _split_and_rest(folder: str) -> tuple[str, tuple[str, ...]]:
    """Divides the name of a folder, such as seg_train or train2017, into the split that it names and other words.

    The split is '' if the name has no split at its start or end.
    """
    words = re.split(r'[_\-. ]+', folder.lower())
    for index in (0, len(words) - 1):
        match = re.fullmatch(r'([a-z]+)\d{0,4}', words[index])
        if match and match[1] in SPLIT_NAMES:
            return SPLIT_NAMES[match[1]], (*words[:index], *words[index + 1:])
    return '', ()
