"""The same labeled images as folders, list and shards."""
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
from helpers.image_files import make_classes

COUNTS = {'a dog': 3, 'cat': 2, 'emu': 4}


def images_of(folder: Path, *, numbers: bool = False) -> list[tuple[Path, str]]:
    return [(path, str(label) if numbers else name) for label, name in enumerate(COUNTS)
            for path in sorted((folder / name).iterdir())]


def label_file(text: str, suffix: str) -> bytes:
    value = int(text) if text.isdecimal() else text
    return (json.dumps({'label': value, 'width': 8}) if suffix == '.json' else f'{text}\n').encode()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def in_folders(root: Path) -> Path:
    for split in ('train', 'val'):
        make_classes(root / split, **COUNTS)
    return root


def in_list(root: Path, folders: Path, *, numbers: bool = False, tab: bool = True) -> Path:
    """Lists, in a random order."""
    root.mkdir()
    for split in ('train', 'val'):
        lines = [f'{os.path.relpath(path, root)}{(chr(9) if tab else " ")}{text}'
                 for path, text in images_of(folders / split, numbers=numbers)]
        (root / f'{split}.txt').write_text('\n'.join(np.random.default_rng(0).permutation(lines)) + '\n\n')
    if numbers:
        (root / 'classes.txt').write_text('\n'.join(COUNTS))
    return root


def in_shards(root: Path, folders: Path, *, suffix: str = '.cls', numbers: bool = True) -> Path:
    """Two shards a split, in a random order, the label before or behind its image."""
    root.mkdir()
    (root / 'classes.txt').write_text('\n'.join(COUNTS))
    for split in ('train', 'val'):
        images = images_of(folders / split, numbers=numbers)
        order = np.random.default_rng(0).permutation(len(images))
        for shard, part in enumerate(np.array_split(order, 2)):
            with tarfile.open(root / f'{split}-{shard}.tar', 'w') as tar:
                for number in part:
                    path, text = images[number]
                    members = [('.png', path.read_bytes()), (suffix, label_file(text, suffix))]
                    for ending, data in members if number % 2 else members[::-1]:
                        add(tar, f'{split}/{number:04}{ending}', data)
    return root
