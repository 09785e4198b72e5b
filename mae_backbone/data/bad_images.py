"""Counts unreadable images over all workers, lists each of them once, and raises an error if there are too many."""
import logging
import math
from pathlib import Path

import torch
from torch.utils.data import get_worker_info

from mae_backbone.data.decode import BadImageError
from mae_backbone.utils.file_lock import locked
from mae_backbone.utils.printable import printable

_LOG = logging.getLogger(__name__)
_ROWS = 1024
_EXAMPLES = 5  # number of images in the message of the error


class BadImages:
    """Unreadable images of a data set.

    Args:
        max_share: fraction of unreadable images among those drawn, in [0, 1], at which training stops. Three standard
            deviations are added, so that a few unreadable images at the start do not end a run. A single unreadable
            image does not end a run, in a set of any size, unless `max_share` is 0.

    Attributes:
        list_file: text file that lists the images, one per line (name, tab, reason), or None. Any number of processes
            may share it, and a resumed run appends to it.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.list_file: Path | None = None
        self.known: set[int] = set()
        self.examples: list[str] = []
        self._listed: set[bytes] = set()
        self._read_until = 0
        # (images drawn, unreadable among them) in one row per worker, so that no process waits for another. Row 0
        # belongs to the process itself.
        self._counts = torch.zeros(_ROWS, 2, dtype=torch.int64).share_memory_()

    @property
    def counts(self) -> tuple[int, int]:
        """Images drawn so far by this process and its workers, and how many of them were unreadable."""
        drawn, bad = self._counts.sum(dim=0).tolist()
        return drawn, bad

    def count(self, images: int = 1, *, bad: int = 0) -> None:
        """Counts drawn images."""
        worker = get_worker_info()
        row = self._counts.numpy()[0 if worker is None else 1 + worker.id % (_ROWS - 1)]
        row[0] += images
        row[1] += bad

    def add(self, index: int, name: str, reason: str) -> None:
        """Records an unreadable image. The first call for an image lists it and logs a warning."""
        if index in self.known:
            return
        self.known.add(index)
        if len(self.examples) < _EXAMPLES:
            self.examples.append(reason)
        if self.list_file is None or self._list(self.list_file, f'{printable(name)}\t{printable(reason)}\n'.encode()):
            _LOG.warning('skipped: %s', printable(reason))

    def check(self, total: int) -> None:
        """Raises BadImageError if too many of the drawn images, or all `total` images, are unreadable."""
        drawn, bad = self.counts
        expected = max(self.max_share, 1 / total) * drawn
        allowed = expected + 3 * math.sqrt(expected) + 1 if self.max_share else 0
        if bad > allowed or len(self.known) == total:
            examples = '\n  '.join(self.examples)
            listed = f'{self.list_file} lists all of them. ' if self.list_file else ''
            raise BadImageError(f'{bad} of {drawn} drawn images could not be read, more than max_bad_share='
                                f'{self.max_share} allows:\n  {examples}\n{listed}Remove or repair them, or raise '
                                'max_bad_share in the config')

    def _list(self, list_file: Path, line: bytes) -> bool:
        """Appends a line unless its name is listed already; returns whether it was new."""
        name = line.split(b'\t')[0]
        with locked(list_file.with_name(f'.{list_file.name}.lock')), open(list_file, 'a+b') as file:
            file.seek(self._read_until)
            self._listed |= {other.split(b'\t')[0] for other in file}
            is_new = name not in self._listed
            if is_new:
                self._listed.add(name)
                file.write(line)
                file.flush()
            self._read_until = file.seek(0, 2)
        return is_new
