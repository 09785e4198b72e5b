"""Runs steps in forked processes that may crash, hang or take memory without harm to the process that forks."""
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from mae_backbone.cli.errors import run_cli

TIME_LIMIT = 20  # seconds of processor time of a step
_BLOCKED = 6     # times as many seconds on the clock, for a step that waits
MEMORY_LIMIT = 2 * 2**30  # bytes that a process may hold at any time, with everything that it has imported
_ADDRESS_SPACE = 6 * 2**30  # bytes that a process may reserve in addition, so that no input endangers the machine
# What a step prints if memory was not granted: with a larger machine it would have taken it.
_NO_MEMORY = ('MemoryError', "can't allocate memory", 'Insufficient memory', 'Unable to allocate')


class Step(NamedTuple):
    """A use of an input by a function that raises the errors of a command."""

    input: str
    target: str
    run: Callable[[], object]


class Outcome(NamedTuple):
    """Result of a step.

    Attributes:
        code: exit code that a command would have; negative: the signal that ended the process.
        seconds: time of the step.
        peak: largest resident memory of the process, in bytes.
        printed: the end of what it printed.
    """

    input: str
    target: str
    code: int
    seconds: float
    peak: int
    printed: str = ''

    @property
    def fault(self) -> str:
        """'hang', 'crash', 'exit code', 'memory', or '' if the input was read or refused properly."""
        if self.code in (-signal.SIGALRM, -signal.SIGPROF):
            return 'hang'
        if self.code < 0:
            return 'crash'
        if self.peak > MEMORY_LIMIT or any(sign in self.printed for sign in _NO_MEMORY):
            return 'memory'
        return 'exit code' if self.code not in (0, 2) else ''


def run_steps(steps: Sequence[Step], folder: Path, *, time_limit: int = TIME_LIMIT) -> list[Outcome]:
    """Runs steps one after the other in a forked process, and in another one after each death.

    Args:
        steps: what to run.
        folder: for what they print.
        time_limit: seconds of processor time after which a step counts as a hang.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(steps):
        started = time.monotonic()
        done, status = _fork(steps[len(outcomes):], folder, time_limit)
        outcomes += done
        code = os.waitstatus_to_exitcode(status)
        if len(outcomes) < len(steps):  # it died in the next step
            step = steps[len(outcomes)]
            outcomes.append(Outcome(step.input, step.target, code or 1, time.monotonic() - started, 0,
                                    _tail(folder / 'printed.txt')))
    return outcomes


def _fork(steps: Sequence[Step], folder: Path, time_limit: int) -> tuple[list[Outcome], int]:
    report, printed = folder / 'report.jsonl', folder / 'printed.txt'
    report.unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        try:
            _child(steps, report, printed, time_limit)
        finally:
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    lines = report.read_text().splitlines() if report.exists() else []
    return [Outcome(**json.loads(line)) for line in lines], status


def _child(steps: Sequence[Step], report: Path, printed: Path, time_limit: int) -> None:
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESS_SPACE, used + _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)  # the threads of a pool do not survive the fork
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)  # it ends the process even inside of C code
    sink = os.open(printed, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    # The commands print to them; lines are written at once, so that they are there after a crash.
    sys.stdout = os.fdopen(1, 'w', buffering=1, encoding='utf-8', closefd=False)
    sys.stderr = os.fdopen(2, 'w', buffering=1, encoding='utf-8', errors='backslashreplace', closefd=False)
    with open(report, 'w') as file:
        for step in steps:
            os.ftruncate(sink, 0)
            os.lseek(sink, 0, os.SEEK_SET)
            Path('/proc/self/clear_refs').write_text('5')  # the peak counts from here
            started = time.monotonic()
            signal.setitimer(signal.ITIMER_PROF, time_limit)
            signal.alarm(_BLOCKED * time_limit)
            code = _exit_code(step)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            outcome = Outcome(step.input, step.target, code, round(time.monotonic() - started, 3), _peak(),
                              _tail(printed))
            file.write(json.dumps(outcome._asdict()) + '\n')
            file.flush()
    os._exit(0)


def _exit_code(step: Step) -> int:
    """Exit code of a command that runs a step."""
    result: list[object] = []
    try:
        code = run_cli(lambda: result.append(step.run()))
    except BaseException:  # what even a command does not catch
        traceback.print_exc()
        return 1
    return code or (result[0] if result and isinstance(result[0], int) else 0)  # of a command that was run


def _peak() -> int:
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM'):
            return int(line.split()[1]) * 1024
    return 0


def _tail(path: Path) -> str:
    return path.read_bytes()[-1500:].decode('utf-8', 'replace') if path.exists() else ''
