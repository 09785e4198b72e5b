"""Names of files and classes that are equal except for the form of their accents, or for upper and lower case.

An accented letter is one character in Unicode's form NFC, and a letter and an accent in NFD, in which macOS writes
names of files. Both look the same.
"""
import os
import unicodedata
from collections.abc import Iterable
from itertools import islice

TO_NFC = 'use one form everywhere; `convmv -f utf8 -t utf8 --nfc -r --notest DIR` renames files and folders'


def nfc(name: str) -> str:
    """Returns a name with each accented letter as one character."""
    return unicodedata.normalize('NFC', name)


def name_key(name: str) -> str:
    """Returns a key that is equal for names that differ only in case or in the form of accents."""
    return nfc(name).casefold()


def accent_hint(missing: Iterable[str]) -> str:
    """Returns a text that continues a sentence if missing files exist under names with another form of accents."""
    for path in islice(missing, 3):
        folder, name = os.path.split(path)
        if not name.isascii() and os.path.isdir(folder) and nfc(name) in map(nfc, os.listdir(folder)):
            return (f'. {folder} has a file whose name only stores accents in another Unicode form (NFC or NFD): '
                    f'{TO_NFC}')
    return ''
