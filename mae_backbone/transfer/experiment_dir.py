"""The folder of a cell: whose it is at the moment, and what came of it."""
import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.run_logs import tail

SPEC, RESULT, ERROR, LOG = 'cell.json', 'result.json', 'error.txt', 'output.log'
LAST_LINES = 12  # of its log, which a failed cell is reported with


class LockedError(Exception):
    """Another living process works in the folder."""


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keeps all other processes out of `folder`, until the block or this process ends, whatever it ends by.

    The claim is a lock of the operating system on a file: that of a dead process is gone with it, and the file that is
    left claims nothing. On network file systems it holds between machines where those lock files (NFS 4, Lustre).

    Raises:
        LockedError: another living process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / 'claim', timeout=0):
            yield
    except Timeout as error:
        raise LockedError(f'{folder} is worked on by another process') from error


def is_claimed(folder: Path) -> bool:
    """Whether a living process works in `folder`."""
    try:
        with claim(folder):
            return False
    except LockedError:
        return True


def result_of(folder: Path) -> dict | None:
    """What a cell that is done came to."""
    path = folder / RESULT
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def error_of(folder: Path) -> str | None:
    """Why a cell failed."""
    path = folder / ERROR
    return path.read_text(encoding='utf-8') if path.is_file() else None


def write_spec(folder: Path, spec: dict, where: dict) -> None:
    """Notes what a cell is about, and `where` its files lie at present, which may change from run to run.

    Raises:
        ValueError: the folder holds results of something else.
    """
    path, before = folder / SPEC, read_spec(folder)
    spec = json.loads(json.dumps(spec))
    if before is not None:
        old = {key: value for key, value in before.items() if key != 'where'}
        changed = sorted(key for key in old.keys() | spec.keys() if old.get(key) != spec.get(key))
        if changed:
            raise ValueError(f'{folder} holds results of another {", ".join(changed)}: choose another --work-dir, or '
                             'remove that folder')
    folder.mkdir(parents=True, exist_ok=True)
    now = spec | {'where': where}
    if now != before:
        write_text(path, json.dumps(now, indent=1))


def read_spec(folder: Path) -> dict | None:
    """What was noted, None where nothing was."""
    path = folder / SPEC
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def note_error(folder: Path, reason: str) -> None:
    """Notes that a cell failed: the reason, and the last lines of its log that do not repeat it."""
    lines = [line for line in tail(folder / LOG).splitlines() if line.strip() and line.strip() not in reason]
    write_text(folder / ERROR, '\n'.join([reason, *lines[-LAST_LINES:]]) + '\n')


def reason_of(error: BaseException) -> str:
    """What an error says, in a line where it says something."""
    return str(error) or ''.join(traceback.format_exception_only(error)).strip()
