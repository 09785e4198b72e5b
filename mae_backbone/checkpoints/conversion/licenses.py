"""Finds the license of weights by the metadata, the name, the folder or the config of a file."""
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mae_backbone.checkpoints.conversion.files import read_json
from mae_backbone.checkpoints.model_index import public_weights

MAE_LICENSE = 'cc-by-nc-4.0'
# README of https://github.com/facebookresearch/mae: code and weights are under CC BY-NC 4.0.
MAE_LICENSE_NOTE = 'the public MAE weights are under CC BY-NC 4.0: attribution, no commercial use'
# Names of the files at https://dl.fbaipublicfiles.com/mae.
_PUBLIC_MAE = re.compile(r'mae_(pretrain|visualize|finetuned)_vit_\w+')
# Names of the same weights on the Hugging Face hub and in timm.
_PUBLIC_MAE_HUB = re.compile(r'facebook/vit-mae-\w+|vit_(base|large|huge)_patch1[46]_224\.mae\b')
_IDENTIFIER = re.compile(r'[\w.+-]{1,64}')
_FRONT_MATTER = re.compile(r'\A---\n(?P<body>.*?)\n---', re.DOTALL)
_LICENSE_LINE = re.compile(r'^license:\s*[\'"]?(?P<license>[\w.+-]+)', re.MULTILINE)


class License(NamedTuple):
    """A license.

    Attributes:
        name: identifier of the Hugging Face hub; None if the license is unknown.
        source: text about where the license is stated.
    """

    name: str | None
    source: str


def find_license(path: Path, metadata: Mapping[str, Any], config: Mapping[str, Any]) -> License:
    """Finds the license of the weights at `path`.

    The first of these that states a license is used: the metadata of an earlier conversion; the name of the file, if it
    is the name of public weights; the model card and `config.json` of a folder; the name of the checkpoint from which
    the training started.

    Args:
        path: file, or folder in the format of the Hugging Face hub or timm.
        metadata: metadata of an earlier conversion; empty if there are none.
        config: config of the training; empty if the file has none.
    """
    if isinstance(metadata.get('license'), str) and _IDENTIFIER.fullmatch(metadata['license']):
        return License(metadata['license'], str(metadata.get('license_source') or 'carried over from the source'))
    known = _license_of_public(path.name)
    if known.name:
        return License(known.name, f'{path.name} is the name of {known.source}')
    if _PUBLIC_MAE.match(path.name):
        return License(MAE_LICENSE, f'{path.name} is the name of a public MAE file')
    if path.is_dir():
        stated = _license_of_folder(path)
        if stated.name:
            return stated
    for text in _strings(config):
        start = Path(text).name
        known = _license_of_public(start)
        if known.name:
            return License(known.name, f'the training started from {start}, {known.source}')
        if _PUBLIC_MAE.match(start) or _PUBLIC_MAE_HUB.search(text):
            return License(MAE_LICENSE, f'the training started from {start}, a public MAE file')
    return License(None, '')


def _license_of_public(name: str) -> License:
    """Returns the license of the public weights with this name or this file name (`model_index`)."""
    for entry in public_weights().values():
        if entry.license and name in (entry.name, entry.file):
            return License(entry.license.lower().replace(' ', '-'), f'public weights, {entry.page}')
    return License(None, '')


def _license_of_folder(folder: Path) -> License:
    card = folder / 'README.md'
    if card.is_file():
        with open(card, encoding='utf-8', errors='replace') as file:
            front = _FRONT_MATTER.match(file.read(1 << 16))
        line = _LICENSE_LINE.search(front['body']) if front else None
        if line:
            return License(line['license'], 'its README.md')
    config = read_json(folder / 'config.json')
    pretrained = config.get('pretrained_cfg')
    stated = pretrained.get('license') if isinstance(pretrained, dict) else None
    if isinstance(stated, str) and _IDENTIFIER.fullmatch(stated):
        return License(stated, 'its config.json')
    names = (str(config.get(key, '')) for key in ('_name_or_path', 'architecture'))
    if any(_PUBLIC_MAE_HUB.search(name) for name in names):
        return License(MAE_LICENSE, 'its config.json names the public MAE weights')
    return License(None, '')


def _strings(value: object) -> list[str]:
    """Returns all strings in nested dicts and lists."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in _strings(item)]
    return []
