"""Files in the cache to which data sets in layouts of other programs are converted."""
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mae_backbone.data.index import cache_folder
from mae_backbone.utils.atomic_write import write_text

_FOLDER = 'layouts'
SPLIT_FILE = 'split.json'
UNKNOWN_FOLDER = f'{_FOLDER}/{"0" * 16}'  # placeholder in the config of a checkpoint; the files are written again
# Pattern of paths in such a cache, on this machine or on the machine on which a checkpoint was trained.
_WRITTEN = re.compile(rf'(?:^|[/\\]){_FOLDER}[/\\][0-9a-f]{{16}}(?:[/\\]|$)')


def is_written(path: str) -> bool:
    """True if a path of a config is in the cache for data sets in other layouts, on any machine."""
    return bool(_WRITTEN.search(path))


def no_training_split(root: str) -> str:
    """Returns the message for data with a validation split only, which can be tested, but not trained on."""
    return (f'{root} has a validation split, and no images for training: add them in a folder or list named train, or '
            'rename the split, so that a validation split is made of its images')


def layout_folder(content: Iterable[str]) -> Path:
    """Makes the folder for a data set. The same content always has the same folder."""
    digest = hashlib.sha256('\n'.join(content).encode('utf-8', 'surrogateescape')).hexdigest()[:16]
    folder = cache_folder() / _FOLDER / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_once(path: Path, text: str) -> str:
    """Writes a file if it does not exist. Its path must depend on its content. Returns the path."""
    if not path.is_file():
        write_text(path, text, errors='surrogateescape')
    return str(path)


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Formats content as JSON. Without `indent`, the result has no spaces."""
    return json.dumps(content, ensure_ascii=False, indent=indent, separators=None if indent else (',', ':'))


def write_record(folder: Path, record: dict[str, Any]) -> Path:
    """Writes the lists of images of a new validation split into the folder of the data set. Returns the path."""
    path = folder / SPLIT_FILE
    write_text(path, to_json(record, indent=1), errors='surrogateescape')
    return path


def split_record(annotations: str) -> str:
    """Returns the file that `write_record` wrote next to an annotation file, as text; '' if there is none."""
    path = Path(os.path.dirname(annotations), SPLIT_FILE)
    if not is_written(annotations) or not path.is_file():
        return ''
    return path.read_text(encoding='utf-8', errors='surrogateescape')
