"""Texts for messages about data: short lists, and paths that do not exist."""
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mae_backbone.formats.names import TO_NFC, name_key, nfc
from mae_backbone.utils.printable import printable


def first_few(items: Iterable[object]) -> str:
    """Joins the first three items, with an ellipsis if there are more."""
    names = [printable(str(item)) for item in items]
    return ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')


def case_hint(names: Iterable[str], others: Iterable[str] = ()) -> str:
    """Returns a text that continues a sentence if names differ only in case or form of accents; '' if none do."""
    by_key: dict[str, set[str]] = defaultdict(set)
    for name in (*names, *others):
        by_key[name_key(name)].add(name)
    groups = [sorted(spellings) for _, spellings in sorted(by_key.items()) if len(spellings) > 1]
    accents = [group[0] for group in groups if len({nfc(name) for name in group}) == 1]
    pairs = [' and '.join(group) for group in groups if group[0] not in accents]
    text = f'. {first_few(pairs)} differ only in upper and lower case: use the same spelling' if pairs else ''
    return text + (f'. The accents of {first_few(accents)} are stored in two Unicode forms (NFC and NFD): {TO_NFC}'
                   if accents else '')


def does_not_exist(path: str, *, suffix: str = '/') -> str:
    """Returns the text that a path does not exist, with the contents of its nearest existing parent folder.

    Args:
        path: file or folder.
        suffix: suffix of the files to list; '/' lists folders only.
    """
    folder = Path(path).absolute().parent
    while not folder.is_dir():
        folder = folder.parent
    with os.scandir(folder) as entries:
        names = sorted(printable(entry.name) + '/' * entry.is_dir() for entry in entries
                       if not entry.name.startswith('.'))
    listed = [name for name in names if name.endswith(('/', suffix))]
    more = f' and {len(listed) - 8} more' if len(listed) > 8 else ''
    kind = 'folders' if suffix == '/' else f'folders or {suffix} files'
    return f'{path} does not exist; {folder} contains {", ".join(listed[:8]) + more or f"no {kind}"}'
