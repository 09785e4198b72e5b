"""Files of conversions: hashes, JSON files, checks before writing, and folders that are written atomically."""
import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.facts import CONVERSION_KEY as KEY
from mae_backbone.checkpoints.run_files import DiskFullError

_MAX_JSON = 1 << 22  # largest JSON file in bytes. A config with the names of 20,000 classes has 1 MB
_WEIGHTS = ('.safetensors', '.bin', '.pth', '.pt', '.pkl')


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file. For a folder, returns the SHA-256 of each weight file by name, joined by '+'."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _WEIGHTS and file.is_file())
        return '+'.join(map(sha256_of, files))
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a small JSON file. Returns {} if it does not exist or is not a JSON object."""
    try:
        if path.stat().st_size > _MAX_JSON:
            return {}
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def metadata_in(path: Path, content: object) -> dict[str, Any]:
    """Returns the metadata that an earlier conversion wrote into a file or a folder; {} if there are none.

    Args:
        path: path of the file or folder.
        content: content of the file, as `read_content` returns it.
    """
    if isinstance(content, dict) and isinstance(content.get(KEY), dict):
        return content[KEY]
    folder = path if path.is_dir() else path.parent if path.name == 'model.safetensors' else None
    if folder is not None and isinstance(found := read_json(folder / 'config.json').get(KEY), dict):
        return found
    return _header_metadata(path) if path.suffix == '.safetensors' and path.is_file() else {}


def _header_metadata(path: Path) -> dict[str, Any]:
    """Returns our metadata in the header of a safetensors file; {} if there are none."""
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, 'pt') as file:
            text = (file.metadata() or {}).get(KEY, '{}')
        content = json.loads(text)
    except (SafetensorError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def check_output(path: Path, *, folder: bool, force: bool) -> None:
    """Checks before a conversion that its result may be written to `path`.

    Args:
        path: path of the result.
        folder: True if the result is a folder.
        force: replace the result of an earlier conversion.

    Raises:
        FileExistsError: `path` exists, and `force` is False or `path` is not the result of an earlier conversion.
        FileNotFoundError: the parent folder of `path` does not exist.
        ValueError: the result is a folder, but `path` has the suffix of a file.
    """
    if folder and path.suffix in _WEIGHTS:
        raise ValueError(f'{path} is named like a file, but this target is a folder: leave {path.suffix} out')
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f'the folder {path.absolute().parent} does not exist: create it, or choose another OUT')
    if not path.exists():
        return
    if path.is_dir() and not folder:
        raise FileExistsError(f'{path} is a folder, but this target is one file: name a file in it')
    if path.is_file() and folder:
        raise FileExistsError(f'{path} is a file, but this target is a folder: choose a name that does not exist yet')
    if path.is_dir() and not any(path.iterdir()):
        return
    if not force:
        raise FileExistsError(f'{path} exists: choose another name, or pass --force to replace it')
    if path.is_dir() and KEY not in read_json(path / 'config.json'):
        raise FileExistsError(f'{path} holds other files than a conversion: --force replaces only the result of an '
                              'earlier conversion, choose another name')


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a new folder next to `path`, and renames it to `path` when the block ends.

    An existing folder at `path` is replaced when the new folder is complete. If the block raises an error, the new
    folder is removed and `path` is not changed.
    """
    path = path.resolve()  # the target of a link is replaced, and not the link
    temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')
    replaced = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.old')
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            os.rename(path, replaced)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if replaced.is_dir():
            if path.exists():
                shutil.rmtree(replaced)
            else:
                os.rename(replaced, path)


def check_space(path: Path, needed: int) -> None:
    """Raises DiskFullError if the disk of `path` has fewer than `needed` free bytes."""
    free = shutil.disk_usage(path.absolute().parent).free
    if free < needed:
        raise disk_full(path, needed)


def disk_full(path: Path, needed: int) -> DiskFullError:
    """Returns the error for a result of `needed` bytes that does not fit on the disk."""
    free = shutil.disk_usage(path.absolute().parent).free
    return DiskFullError(errno.ENOSPC, f'no room for {path}: it needs {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB '
                         'are free. Nothing was written. Free some space, choose an OUT on another disk, or pass '
                         '--half for half the size')
