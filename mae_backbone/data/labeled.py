"""Labeled images: where the files of a split are, and of which class each is: folders, a list, or shards."""
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_backbone.data.files import entries, list_images, packed
from mae_backbone.data.index import Names, Stamp, columns, kept_table
from mae_backbone.data.shards import Member, ShardSource, is_image, is_shards, members, shards_in
from mae_backbone.data.sources import lines

_LABELS = ('.cls', '.json')  # as WebDataset names them; the first that is there counts
_CHECKED_LINES = 1000  # of a list, at its opening


class Labeled(NamedTuple):
    """The images of a split, class by class."""

    classes: tuple[str, ...]     # in the order of the labels
    labels: np.ndarray           # (N,) int64
    files: np.ndarray            # (N,) names, as `packed`: paths, or SHARD/MEMBER
    rows: np.ndarray             # (N,) int64 places of the images in `shards`
    shards: ShardSource | None   # what holds them, where they are no files


def open_labeled(root: Path, split: str, classes: Sequence[str] | None = None) -> Labeled:
    """The labeled images of a split.

    `root/split/CLASS/` are folders of classes; `root/split.txt` is a list with a path, relative to the list, and a
    class in each line; `root/split/*.tar`, `root/split.tar` or `root/split-*.tar` are shards as WebDataset has them,
    where the class of NAME.jpg stands in NAME.cls, or in NAME.json as "label" or "cls". A class is a name or a number
    from 0 on. The labels follow `classes`; otherwise the split 'train', where there is one: its sorted names; or
    `root/classes.txt` and the numbers.

    Raises:
        FileNotFoundError, ValueError: files, labels or classes that are missing, empty or do not fit.
    """
    kind, source = layout(root, split), 'the list classes'
    if classes is None and split not in ('', 'train'):
        classes, source = class_names(root, 'train') or None, (root / 'train').absolute()
    if kind == 'folders':
        return _of_folders(root, split, classes, source)
    names, texts, shards = _of_list(root / f'{split}.txt') if kind == 'list' else _of_shards(_shards(root, split))
    classes = tuple(classes) if classes is not None else named_classes(root, texts)
    labels = numbered(texts, classes, f'{root / split} ({kind})')
    rows = np.argsort(labels, kind='stable')
    return Labeled(classes, labels[rows], np.array([os.fsencode(names[row]) for row in rows]), rows, shards)


def layout(root: Path, split: str) -> str:
    """How a split is laid out: 'folders', 'list' or 'shards'; 'folders' where there is nothing."""
    if split and (root / f'{split}.txt').is_file() and not (root / split).is_dir():
        return 'list'
    return 'shards' if _shards(root, split) else 'folders'


def _shards(root: Path, split: str) -> list[str]:
    folder = root / split
    if folder.is_dir():
        return shards_in(folder) if is_shards(folder) else []
    return [path for path in shards_in(root) if os.path.basename(path) == f'{split}.tar'
            or os.path.basename(path).startswith(f'{split}-')] if split and root.is_dir() else []


# ---- classes

def class_names(root: Path, split: str) -> list[str]:
    """Names of the classes in the order of their labels, as `open_labeled` finds them in this split alone."""
    kind = layout(root, split)
    if kind == 'folders':
        return list(_folders(root / split)) if (root / split).is_dir() else []
    texts = (_of_list(root / f'{split}.txt') if kind == 'list' else _of_shards(_shards(root, split)))[1]
    return list(named_classes(root, texts))


def named_classes(root: Path, texts: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes in the order of their labels, from the classes of all images as they are written."""
    if not all(text.isdecimal() for text in texts):
        return tuple(sorted(set(texts)))
    file = root / 'classes.txt'
    if file.is_file():
        return tuple(line.strip() for line in file.read_text(encoding='utf-8').splitlines() if line.strip())
    return tuple(str(number) for number in range(max(map(int, texts)) + 1))


def numbered(texts: Sequence[str], classes: Sequence[str], where: str) -> np.ndarray:
    """Classes as they are written, names or numbers -> labels (N,). Raises ValueError for one that is no class."""
    label = {str(number): number for number in range(len(classes))} | {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(texts) - label.keys())
    if unknown:
        raise ValueError(f'{where} has {len(unknown)} classes ({", ".join(unknown[:5])}) that are not among the '
                         f'{len(classes)} of training ({", ".join(classes[:5])}, ...): both must name the same; '
                         'correct the labels, or set classes')
    return np.array([label[text] for text in texts], np.int64)


# ---- folders

def _of_folders(root: Path, split: str, wanted: Sequence[str] | None, source: str | Path) -> Labeled:
    folder = _split_folder(root, split)
    classes = _folder_classes(folder, wanted, source)
    files = [list_images(folder / name) for name in classes]
    labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files])
    return Labeled(classes, labels, packed(path for paths in files for path in paths), np.arange(len(labels)), None)


def _split_folder(root: Path, split: str) -> Path:
    folder = root / split
    if not folder.is_dir():
        there = ', '.join(_folders(root)) or 'none'
        raise FileNotFoundError(f'{root.absolute()} has no folder {split!r}; folders there: {there}. Set split to one '
                                "of them, or to '' where they are the classes, or give another --data-root DIR")
    return folder


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in entries(folder) if entry.is_dir()))


def _folder_classes(folder: Path, wanted: Sequence[str] | None, source: str | Path) -> tuple[str, ...]:
    """Names of the class folders in the order of their labels: the `wanted` ones, which stand in `source`, or all."""
    found = _folders(folder)
    if not found:
        raise ValueError(f'{folder.absolute()} has no class folders: put the images of each class into a folder of its '
                         'name there, or give another --data-root DIR')
    if wanted is None:
        return found
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or extra or len(wanted) != len(found):
        raise ValueError(f'{folder.absolute()} has {len(found)} class folders that are not the {len(wanted)} of '
                         f'{source}: missing {missing}, not wanted {extra}. Both must name the same classes, each '
                         'once: rename, move or add folders, or set classes')
    return tuple(wanted)


# ---- lists

def _of_list(path: Path) -> tuple[list[str], list[str], None]:
    """Paths of the images and classes in a list of `path label` lines."""
    names, texts = [], []
    for number, line in lines(str(path)):
        name, _, text = line.rpartition('\t') if '\t' in line else line.rstrip().rpartition(' ')
        if not name.strip() or not text.strip():
            raise ValueError(f'{path}, line {number}: {line[:80]!r} is no path and class, such as images/1.jpg cat; '
                             'where names of classes have blanks, put a tab between the two')
        names.append(os.path.join(path.parent, name.strip()))
        texts.append(text.strip())
    if not names:
        raise ValueError(f'{path} names no images: it must have a path and a class in each line')
    for index in np.unique(np.linspace(0, len(names) - 1, _CHECKED_LINES).astype(int)).tolist():
        if not os.path.exists(names[index]):
            raise FileNotFoundError(f'{names[index]} does not exist: {path} names it, by a path relative to that list. '
                                    'Correct or remove the line')
    return names, texts, None


# ---- shards

def _of_shards(paths: Sequence[str]) -> tuple[list[str], list[str], ShardSource]:
    """Names of the images and classes in shards, by an index of the labels that is made once."""
    shards = ShardSource.open(paths)
    paths = [os.path.abspath(path) for path in paths]

    def build() -> tuple[dict[str, np.ndarray], list[Stamp]]:
        stamps = [Stamp.of_file(path) for path in paths]
        return columns('labels', (text for path in paths for text in _labels_in(path))), stamps

    table = kept_table('\n'.join([f'labels of {paths[0]}', 'labels', *paths]), build)
    texts: Names = table.names('labels')
    return [shards.name(i) for i in range(len(shards))], [texts[i] for i in range(len(texts))], shards


def _labels_in(path: str) -> Iterator[str]:
    """The class of each image in a tar file, in the order of the images."""
    images: list[str] = []
    labels: dict[tuple[str, str], Member] = {}
    for member in members(path):
        folder, _, base = member.name.rpartition('/')
        key, suffix = f'{folder}/{base.partition(".")[0]}', os.path.splitext(base)[1].lower()
        if is_image(member.name):
            images.append(key)
        elif suffix in _LABELS:
            labels[key, suffix] = member
    with open(path, 'rb') as file:
        for key in images:
            found = [labels[key, suffix] for suffix in _LABELS if (key, suffix) in labels]
            if not found:
                raise ValueError(f'{path}: the image {key.strip("/")} has no {" or ".join(_LABELS)} beside it: pack it '
                                 'with its class, or use the shards for pretraining alone')
            file.seek(found[0].offset)
            yield _class_in(file.read(found[0].size), f'{path}/{found[0].name}')


def _class_in(data: bytes, name: str) -> str:
    """The class in a .cls or .json file."""
    try:
        text = data.decode()
        if name.lower().endswith('.json'):
            content = json.loads(text)
            found = [content[key] for key in ('label', 'cls') if key in content]
            text = str(found[0])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f'{name} holds no class: wanted text with a name or number, or JSON such as '
                         '{"label": 3}') from error
    if not text.strip():
        raise ValueError(f'{name} is empty: wanted a name or number of a class')
    return text.strip()
