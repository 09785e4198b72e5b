"""Labeled images of a split: files and classes from class folders, a list, or shards."""
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mae_backbone.data.files import IMAGE_SUFFIXES, entries, file_type, list_images, packed
from mae_backbone.data.index import Names, Stamp, columns, kept_table
from mae_backbone.data.shards import Member, ShardSource, is_image, is_shards, members, shards_in
from mae_backbone.data.sources import lines

_LABELS = ('.cls', '.json')  # suffixes of labels in WebDataset; the first one that exists is used
_CHECKED_LINES = 1000  # number of lines of a list whose files are checked when it is opened


class Labeled(NamedTuple):
    """Images of a split, sorted by class."""

    classes: tuple[str, ...]     # in the order of the labels
    labels: np.ndarray           # (N,) int64
    files: np.ndarray            # (N,) names as `packed` returns them: paths, or SHARD/MEMBER
    rows: np.ndarray             # (N,) int64 indices of the images in `shards`
    shards: ShardSource | None   # the shards that hold the images, None for files


def open_labeled(root: Path, split: str, classes: Sequence[str] | None = None,
                 suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Labeled:
    """Opens the labeled images of a split, in one of three layouts.

    - Class folders `root/split/CLASS/`.
    - A list `root/split.txt` with a path, relative to the list, and a class in each line.
    - Shards `root/split/*.tar`, `root/split.tar` or `root/split-*.tar` in WebDataset's layout. The class of NAME.jpg is
      in NAME.cls, or in NAME.json as "label" or "cls".

    Images in folders end in one of `suffixes`.

    A class is a name or a number from 0 on. The labels follow `classes`. Without it they follow the sorted names of the
    split 'train' if there is one, or `root/classes.txt` and the numbers.

    Raises:
        FileNotFoundError, ValueError: files, labels or classes are missing, empty or contradictory.
    """
    kind = layout(root, split)
    source: str | Path = 'the list classes'
    if classes is None and split not in ('', 'train'):
        classes, source = class_names(root, 'train') or None, (root / 'train').absolute()
    if kind == 'folders':
        return _of_folders(root, split, classes, source, suffixes)
    names, texts, shards = _of_list(root / f'{split}.txt') if kind == 'list' else _of_shards(_shards(root, split))
    classes = tuple(classes) if classes is not None else named_classes(root, texts)
    labels = numbered(texts, classes, f'{root / split} ({kind})')
    rows = np.argsort(labels, kind='stable')
    return Labeled(classes, labels[rows], np.array([os.fsencode(names[row]) for row in rows]), rows, shards)


def layout(root: Path, split: str) -> str:
    """Layout of a split: 'folders', 'list' or 'shards'; 'folders' if nothing exists."""
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
    """Names of the classes in the order of the labels, from this split only."""
    kind = layout(root, split)
    if kind == 'folders':
        return list(class_folders(root, split)) if (root / split).is_dir() else []
    texts = (_of_list(root / f'{split}.txt') if kind == 'list' else _of_shards(_shards(root, split)))[1]
    return list(named_classes(root, texts))


def named_classes(root: Path, texts: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes in the order of the labels, from the written classes of all images."""
    if not all(text.isdecimal() for text in texts):
        return tuple(sorted(set(texts)))
    file = root / 'classes.txt'
    if file.is_file():
        return tuple(_names_in(file))
    return tuple(str(number) for number in range(max(map(int, texts)) + 1))


def _names_in(file: Path) -> list[str]:
    """Names in classes.txt. Raises ValueError for a repeated name, which would join two classes."""
    names = [line.strip() for line in file.read_text(encoding='utf-8-sig').splitlines() if line.strip()]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise ValueError(f'{file} names {", ".join(repeated[:5])} more than once: give every class a unique name')
    return names


def numbered(texts: Sequence[str], classes: Sequence[str], where: str) -> np.ndarray:
    """written classes, names or numbers -> labels (N,). Raises ValueError for an unknown class."""
    label = {str(number): number for number in range(len(classes))} | {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(texts) - label.keys())
    if unknown:
        raise ValueError(f'{where} has {len(unknown)} classes ({", ".join(unknown[:5])}) that are not among the '
                         f'{len(classes)} of training ({", ".join(classes[:5])}, ...): both need the same classes. '
                         'Correct the labels, or set classes')
    return np.array([label[text] for text in texts], np.int64)


# ---- folders

def _of_folders(root: Path, split: str, wanted: Sequence[str] | None, source: str | Path,
                suffixes: Sequence[str]) -> Labeled:
    folder = _split_folder(root, split)
    folders = class_folders(root, split)
    classes = _folder_classes(folder, tuple(folders), wanted, source)
    files = [list_images(folders[name], suffixes) for name in classes]
    labels = np.repeat(np.arange(len(files)), [len(paths) for paths in files])
    return Labeled(classes, labels, packed(path for paths in files for path in paths), np.arange(len(labels)), None)


def _split_folder(root: Path, split: str) -> Path:
    folder = root / split
    if not folder.is_dir():
        folders = ', '.join(_folders(root)) or 'none'
        raise FileNotFoundError(f'{root.absolute()} has no folder {split!r}; its folders: {folders}. Set split to one '
                                "of them, or to '' if they are the classes, or give another --data-root DIR")
    return folder


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in entries(folder) if file_type(entry) == stat.S_IFDIR))


def class_folders(root: Path, split: str) -> dict[str, Path]:
    """Returns the folder of each class name of a split, in the order of the labels.

    The names are the sorted folder names. If all folders are named by numbers and `root/classes.txt` exists,
    folder N holds the class in line N of the file, counted from 0.

    Raises:
        ValueError: classes.txt has no line for a folder or repeats a name, or two folders have the same number.
    """
    folder, file = root / split, root / 'classes.txt'
    numbers = _folders(folder)
    if not numbers or not all(name.isdecimal() for name in numbers) or not file.is_file():
        return {name: folder / name for name in numbers}
    lines = _names_in(file)
    if len(set(map(int, numbers))) < len(numbers):
        raise ValueError(f'{folder.absolute()} has folders with the same number, such as 1 and 01, and {file} has a '
                         'name for each number: rename one of them')
    unknown = [name for name in numbers if int(name) >= len(lines)]
    if unknown:
        raise ValueError(f'{file} has {len(lines)} names, but {folder.absolute()} has the folders '
                         f'{", ".join(unknown[:3])}: folder N holds the class in line N, counted from 0. Add the '
                         'missing names, or remove classes.txt')
    return {lines[int(name)]: folder / name for name in sorted(numbers, key=int)}


def _folder_classes(folder: Path, names: tuple[str, ...], wanted: Sequence[str] | None,
                    source: str | Path) -> tuple[str, ...]:
    """Names of the classes in the order of the labels: `wanted`, which come from `source`, or all `names`."""
    if not names:
        raise ValueError(f'{folder.absolute()} has no class folders: put the images of each class into a folder with '
                         'its name, or give another --data-root DIR')
    if wanted is None:
        return names
    missing, extra = sorted(set(wanted) - set(names)), sorted(set(names) - set(wanted))
    if missing or extra or len(wanted) != len(names):
        raise ValueError(f'{folder.absolute()} has {len(names)} class folders that differ from the {len(wanted)} '
                         f'of {source}: missing {missing}, unexpected {extra}. Both need the same classes, each once: '
                         'rename, move or add folders, or set classes')
    return tuple(wanted)


# ---- lists

def _of_list(path: Path) -> tuple[list[str], list[str], None]:
    """Paths and written classes in a list with `path class` lines."""
    names, texts = [], []
    for number, line in lines(str(path)):
        name, _, text = line.rpartition('\t') if '\t' in line else line.rstrip().rpartition(' ')
        if not name.strip() or not text.strip():
            raise ValueError(f'{path}, line {number}: {line[:80]!r} is not a path and a class, such as images/1.jpg '
                             'cat. If names of classes contain blanks, put a tab between path and class')
        names.append(os.path.join(path.parent, name.strip()))
        texts.append(text.strip())
    if not names:
        raise ValueError(f'{path} names no images: expected a path and a class in each line')
    for index in np.unique(np.linspace(0, len(names) - 1, _CHECKED_LINES).astype(int)).tolist():
        if not os.path.exists(names[index]):
            raise FileNotFoundError(f'{names[index]} does not exist: {path} names it, relative to the list. Correct '
                                    'or remove the line')
    return names, texts, None


# ---- shards

def _of_shards(paths: Sequence[str]) -> tuple[list[str], list[str], ShardSource]:
    """Names of the images and written classes in shards; the index of the classes is cached."""
    shards = ShardSource.open(paths)
    paths = [os.path.abspath(path) for path in paths]

    def build() -> tuple[dict[str, np.ndarray], list[Stamp]]:
        stamps = [Stamp.of_file(path) for path in paths]
        return columns('labels', (text for path in paths for text in _labels_in(path))), stamps

    table = kept_table('\n'.join([f'labels of {paths[0]}', 'labels', *paths]), build)
    texts: Names = table.names('labels')
    return [shards.name(i) for i in range(len(shards))], [texts[i] for i in range(len(texts))], shards


def _labels_in(path: str) -> Iterator[str]:
    """Class of each image in a tar file, in the order of the images."""
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
            files = [labels[key, suffix] for suffix in _LABELS if (key, suffix) in labels]
            if not files:
                raise ValueError(f'{path}: the image {key.strip("/")} has no {" or ".join(_LABELS)} file: pack it '
                                 'with its class, or use the shards only for pretraining')
            file.seek(files[0].offset)
            yield _class_in(file.read(files[0].size), f'{path}/{files[0].name}')


def _class_in(data: bytes, name: str) -> str:
    """Class in a .cls or .json file."""
    try:
        text = data.decode()
        if name.lower().endswith('.json'):
            content = json.loads(text)
            text = str(next(content[key] for key in ('label', 'cls') if key in content))
    except (ValueError, LookupError, TypeError, StopIteration) as error:
        raise ValueError(f'{name} holds no class: expected text with a name or number, or JSON such as '
                         '{"label": 3}') from error
    if not text.strip():
        raise ValueError(f'{name} is empty: expected the name or number of a class')
    return text.strip()
