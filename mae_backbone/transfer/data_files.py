"""Files of a data set as part of the spec of a cell, so that results for other files never appear in the same table."""
import hashlib
import os
from pathlib import Path
from typing import Any

_WORK_DIRS = 'work_dirs'  # default output folder of the commands of this package


def describe_files(folder: Path, work_dir: Path) -> dict[str, Any]:
    """Returns the number of files in a folder and its subfolders, their bytes, and a hash of their names and sizes.

    The hash does not change if the folder is copied. An image that is replaced by another one of exactly the same size
    is not noticed, because the content of the files is not read.

    Args:
        folder: folder of the data set. If it does not exist, it has no files.
        work_dir: folder whose files do not count, because they are written by the experiment. Hidden files and folders,
            and folders named work_dirs, do not count either.

    Returns:
        dict(files=int, bytes=int, hash=str).
    """
    digest, count, size = hashlib.sha256(), 0, 0
    seen: set[str] = set()  # folders by their real path: links to folders may form a cycle
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or Path(real) == work_dir.resolve():
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith('.') and name != _WORK_DIRS)
        for name in sorted(name for name in names if not name.startswith('.')):
            path = os.path.join(parent, name)
            try:
                length = os.stat(path).st_size
            except OSError:  # a link to a file that does not exist
                continue
            digest.update(f'{os.path.relpath(path, folder)}\0{length}\0'.encode(errors='surrogateescape'))
            count, size = count + 1, size + length
    return {'files': count, 'bytes': size, 'hash': digest.hexdigest()[:16]}
