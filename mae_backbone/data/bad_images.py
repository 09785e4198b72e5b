"""Images that cannot be read: counted over all workers, listed once each, the end of the run where they are many."""
import logging
import math
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import torch
from torch.utils.data import get_worker_info

from mae_backbone.data.decode import BadImageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_LOG = logging.getLogger(__name__)
_ROWS = 1024


class BadImages:
    """What is known of the images of a data set that cannot be read.

    Args:
        max_share: share of bad ones among the images drawn at which to stop, in [0, 1]. Three standard deviations more
            are allowed, so that an unlucky start does not end a run.

    Attributes:
        list_file: text file to list them in, a line each (name, tab, reason), or None. It may be shared by any number
            of processes, and goes on where an earlier run ended.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.list_file: Path | None = None
        self.known: set[int] = set()
        self.examples: list[str] = []
        self._listed: set[bytes] = set()
        self._read_until = 0
        # A row for each worker, and the first for the process itself: nobody waits for anybody. All images met, bad
        # ones among them.
        self._counts = torch.zeros(_ROWS, 2, dtype=torch.int64).share_memory_()

    @property
    def counts(self) -> tuple[int, int]:
        """Images drawn until now by this process and its workers, and how many of these draws met a bad one."""
        seen, bad = self._counts.sum(dim=0).tolist()
        return seen, bad

    def saw(self, images: int = 1, *, bad: int = 0) -> None:
        worker = get_worker_info()
        row = self._counts.numpy()[0 if worker is None else 1 + worker.id % (_ROWS - 1)]
        row[0] += images
        row[1] += bad

    def add(self, index: int, name: str, reason: str) -> None:
        """Notes an image that was met and could not be read; warns of it and lists it, once."""
        if index in self.known:
            return
        self.known.add(index)
        if len(self.examples) < 5:
            self.examples.append(reason)
        if self.list_file is None or self._list(f'{_printable(name)}\t{_printable(reason)}\n'.encode()):
            _LOG.warning('skipped: %s', reason)

    def check(self, total: int) -> None:
        """Raises BadImageError where too many of the images were bad, or each of all `total`."""
        seen, bad = self.counts
        expected = self.max_share * seen
        allowed = expected + 3 * math.sqrt(expected) + 1 if self.max_share else 0
        if bad > allowed or len(self.known) == total:
            examples = '\n  '.join(self.examples)
            listed = f'All that were met are listed in {self.list_file}. ' if self.list_file else ''
            raise BadImageError(f'{bad} of {seen} images could not be read, more than '
                                f'max_bad_share={self.max_share} of '
                           f'them:\n  {examples}\n{listed}Remove or repair them, or raise max_bad_share in the config')

    def _list(self, line: bytes) -> bool:
        """Appends a line unless its name is there already; says whether it was new."""
        name = line.split(b'\t')[0]
        with open(self.list_file, 'a+b') as file, _locked(file):
            file.seek(self._read_until)
            self._listed |= {other.split(b'\t')[0] for other in file}
            is_new = name not in self._listed
            if is_new:
                self._listed.add(name)
                file.write(line)
                file.flush()
            self._read_until = file.seek(0, 2)
        return is_new


@contextmanager
def _flock(file: BinaryIO):
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _locked(file: BinaryIO):
    return nullcontext() if fcntl is None else _flock(file)


def _printable(text: str) -> str:
    """In one line, and in UTF-8 even where a name on the disk is not."""
    return ''.join(c if c.isprintable() else c.encode('unicode_escape').decode() for c in text)
