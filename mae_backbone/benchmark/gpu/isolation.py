"""Runs checks in a separate process, which is replaced after a crash or a timeout."""
import os
import time
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection

from mae_backbone.benchmark.gpu.check import Check, End, Row, Settings, perform

_EXIT_SECONDS = 5  # until an idle process has ended


class Isolated:
    """A process that runs one check after the other.

    An illegal access on a GPU makes every later call in its process fail, and a kernel that hangs cannot be
    interrupted: only the end of the process helps.
    """

    def __init__(self) -> None:
        self.context = get_context('spawn')  # CUDA does not survive a fork
        self.pipe: Connection | None = None

    def perform(self, check: Check, settings: Settings, seconds: float) -> Iterator[Row | End]:
        """As `check.perform`, for at most so many seconds."""
        if self.pipe is None:
            self._start()
        assert self.pipe is not None
        until = time.monotonic() + seconds
        try:
            self.pipe.send((check, settings))
            while self.pipe.poll(max(0.0, until - time.monotonic())):
                message = self.pipe.recv()
                yield message
                if isinstance(message, End):
                    return
        except (EOFError, OSError):
            self.close()
            yield End('error', f'the process of the check ended with exit code {self.process.exitcode}')
            return
        self.process.kill()
        self.close()
        yield End('error', f'stopped after {seconds:.0f} s')

    def close(self) -> None:
        """Ends the process, which ends by itself unless it is in the middle of a check."""
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
            self.process.join(_EXIT_SECONDS)
            self.process.kill()
            self.process.join()

    def _start(self) -> None:
        self.pipe, remote = self.context.Pipe()
        self.process = self.context.Process(target=_serve, args=(remote,), daemon=True)
        self.process.start()
        remote.close()


def _serve(pipe: Connection) -> None:
    warnings.simplefilter('ignore')  # of other libraries, as their log, which goes to stdout
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        while True:
            check, settings = pipe.recv()
            for message in perform(check, settings):
                pipe.send(message)
    except (EOFError, OSError, KeyboardInterrupt):  # the other end is closed, or Ctrl-C, which it reports
        return
