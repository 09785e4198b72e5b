"""Files in the folder of a cell: its settings ("spec"), lock, log, and result or error."""
import json
import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mae_backbone.transfer.image_results import from_text
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.run_logs import tail

SPEC, RESULT, ERROR, LOG, LOCK = 'cell.json', 'result.json', 'error.txt', 'output.log', 'cell.lock'
CLASSES = 'classes'  # key of a spec: sorted names of the classes of the data
FILES = 'files'  # key of a spec: `describe_files` of the folder of the data
_UNDEFINED = -1.0  # COCO's metrics have this value if no object has their size, and NaN for a class without objects
NO_OBJECTS = 'the validation images have no such objects'
NUM_LOG_LINES = 12  # number of last lines of the log in the report of a failure

Spec = dict[str, Any]


class LockedError(Exception):
    """Another running process has locked the folder."""


class BrokenResultError(ValueError):
    """A result or spec file is incomplete or not in the expected format."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process until the end of the `with` block or of the process.

    The operating system releases the lock when the process ends for any reason. A lock file without a running process
    does not lock the folder. On network file systems the lock works between machines if the file system supports file
    locks (NFS 4, Lustre).

    Raises:
        LockedError: another running process has locked the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise LockedError(f'another process works in {folder}') from error


def is_locked(folder: Path) -> bool:
    """True if a running process has locked `folder`. To test this, the function locks the folder for a moment."""
    try:
        with lock(folder):
            return False
    except LockedError:
        return True


def read_result(folder: Path) -> dict[str, Any] | None:
    """Returns the result of a finished cell, or None if it is not finished or its result file is broken."""
    try:
        return _load_result(folder)
    except BrokenResultError:
        return None


def read_error(folder: Path) -> str | None:
    """Returns the error of a failed cell, or None if it has none."""
    path = folder / ERROR
    return path.read_text(encoding='utf-8', errors='replace') if path.is_file() else None


def read_spec(folder: Path) -> Spec:
    """Returns the spec that `write_spec` wrote.

    Raises:
        BrokenResultError: the file does not exist or is broken.
    """
    spec = _load_json(folder / SPEC)
    if spec is None:
        raise BrokenResultError(f'{folder} has no {SPEC}')
    if not isinstance(spec.get('where'), dict):
        raise BrokenResultError(f'{folder / SPEC} has no "where"')
    return spec


def write_spec(folder: Path, spec: Spec, where: dict[str, Any]) -> None:
    """Writes the spec of a cell.

    Args:
        folder: folder of the cell.
        spec: all settings that determine the result.
        where: paths of the files that the cell reads. They may change between runs.

    Raises:
        ValueError: the folder contains results for another spec.
    """
    spec = json.loads(json.dumps(spec))
    before = read_spec(folder) if (folder / SPEC).is_file() else None
    if before is not None:
        old = {key: value for key, value in before.items() if key != 'where'}
        for key in (CLASSES, FILES):
            if key not in old or key not in spec:  # written by an earlier version, or the classes are unknown
                old[key] = spec.get(key)
        changed = sorted(key for key in old.keys() | spec.keys() if old.get(key) != spec.get(key))
        if changed:
            raise ValueError(f'{folder} holds results for {_difference(changed, old, spec)}: choose another '
                             '--work-dir, or remove that folder')
    folder.mkdir(parents=True, exist_ok=True)
    current = spec | {'where': where}
    if current != before:
        write_text(folder / SPEC, json.dumps(current, indent=1))


def set_aside_broken(folder: Path) -> str | None:
    """Renames broken files in the folder of a cell, so that the cell runs again.

    If the result file is broken, only this file is renamed. If the spec is broken, the whole folder is renamed, because
    its other files may belong to another cell. A folder that another process has locked is not changed.

    Returns:
        A message with the reason and the new name, or None if no file was broken.
    """
    error = find_broken(folder)
    if error is None or is_locked(folder):
        return None
    error = find_broken(folder)  # another process may have replaced the file since the first check
    if error is None:
        return None
    path, reason = error
    return f'{reason}: renamed to {_rename(path).name}, the cell runs again'


def write_error(folder: Path, reason: str) -> None:
    """Writes the error file of a cell: the reason, and the last lines of its log without lines of the reason."""
    lines = [line for line in tail(folder / LOG).splitlines() if line.strip() and line.strip() not in reason]
    write_text(folder / ERROR, '\n'.join([reason, *lines[-NUM_LOG_LINES:]]) + '\n')


def in_percent(logged: Mapping[str, float], spec: Spec) -> dict[str, float]:
    """Returns the metrics of a spec in percent by their names in the table, without those that are not defined.

    Args:
        logged: values by their names in the log, with all metrics of the spec.
        spec: spec of the cell, with 'metrics' and 'scale'.

    Raises:
        ValueError: no metric is defined.
    """
    values = {title: float(logged[name]) * spec['scale'] for name, title in spec['metrics'].items()
              if logged[name] != _UNDEFINED and not math.isnan(logged[name])}
    if not values:
        raise ValueError(f'{", ".join(spec["metrics"])} are not defined: {NO_OBJECTS}')
    return values


def error_message(error: BaseException) -> str:
    """Returns the message of an error, or its type if it has no message."""
    return str(error) or ''.join(traceback.format_exception_only(error)).strip()


def find_broken(folder: Path) -> tuple[Path, str] | None:
    """Returns the path to rename and the reason, or None if nothing is broken."""
    try:
        if (folder / SPEC).exists():
            read_spec(folder)
    except BrokenResultError as error:
        return folder, str(error)
    try:
        _load_result(folder)
    except BrokenResultError as error:
        return folder / RESULT, str(error)
    return None


def _load_result(folder: Path) -> dict[str, Any] | None:
    path = folder / RESULT
    result = _load_json(path)
    if result is None:
        return None
    values, figures = result.get('values'), result.get('pictures')
    if isinstance(values, dict) and values:
        if not all(_is_number(value) for value in [*values.values(), result.get('seconds')]):
            raise BrokenResultError(f'{path} has values that are not numbers')
        environment = result.get('environment')
        if environment is not None and not isinstance(environment, dict):
            raise BrokenResultError(f'{path} has an "environment" that is not an object')
        try:
            if result.get('correct') is not None:
                from_text(result['correct'])
        except (ValueError, TypeError, KeyError) as error:
            raise BrokenResultError(f'{path} has a "correct" that does not hold the results of images') from error
    elif not (isinstance(figures, dict) and isinstance(result.get('faults'), list)):
        raise BrokenResultError(f'{path} holds no values')
    files = [*(figures if isinstance(figures, dict) else ()), *(result.get('files') or ())]
    missing = [str(name) for name in files if not (folder / str(name)).is_file()]
    if missing:
        raise BrokenResultError(f'{path} names {", ".join(missing)}, which does not exist')
    return result


def _load_json(path: Path) -> dict[str, Any] | None:
    """Returns the object in a JSON file, or None if the file does not exist."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenResultError(f'{path} cannot be read ({error})') from error
    if not isinstance(content, dict):
        raise BrokenResultError(f'{path} holds {type(content).__name__} instead of an object')
    return content


def _difference(changed: list[str], old: Spec, new: Spec) -> str:
    others = [key for key in changed if key not in (CLASSES, FILES)]
    if others:
        return f'a different {", ".join(others)}'
    if CLASSES in changed:
        return f'the classes {_list(old[CLASSES])}, the data have {_list(new[CLASSES])}'
    before, now = (f'{files["files"]:,} files of {files["bytes"]:,} bytes' for files in (old[FILES], new[FILES]))
    return f'other files: the folder of the data had {before}, and now has {now}' + (
        ' with other names or sizes' if before == now else '')


def _list(names: list[str]) -> str:
    return ', '.join(names[:8]) + (f', ... ({len(names)} in total)' if len(names) > 8 else '')


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _rename(path: Path) -> Path:
    """Renames a file or folder to NAME.broken, or NAME.broken2 and so on if that exists."""
    target, number = path.with_name(f'{path.name}.broken'), 1
    while target.exists():
        number += 1
        target = path.with_name(f'{path.name}.broken{number}')
    return path.rename(target)
