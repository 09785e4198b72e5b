"""Where jobs run: processes of this machine, with or without GPUs, or jobs of Slurm."""
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mae_backbone.utils.cpu import threads_per_process
from mae_backbone.utils.run_logs import tail
from mae_backbone.utils.subprocesses import child_environment


class Job(NamedTuple):
    """Cells that one process works through, in their folders; trainings on several GPUs want `gpus` of them."""

    name: str
    folders: tuple[Path, ...]
    gpus: int = 1

    @property
    def command(self) -> list[str]:
        return [sys.executable, '-m', 'mae_backbone.transfer.worker', *map(str, self.folders)]


class Running(Protocol):
    """A job that was started."""

    def ended(self) -> bool: ...

    def failure(self) -> str | None:
        """Why the process died, None where it came to its end."""

    def stop(self) -> None:
        """Asks it to end."""

    def wait(self) -> None:
        """Waits for the end of one that was stopped, where this machine runs it."""


class Place(Protocol):
    """Something that jobs can be started in."""

    words: str  # what it is, for people

    def has_room(self, job: Job) -> bool:
        """Whether a job can be started at the moment."""

    def start(self, job: Job) -> Running:
        """Starts a job that there is room for."""


class Processes:
    """Processes of this machine, each with slots of its own: a GPU each, or '' for a share of the processors."""

    def __init__(self, slots: Sequence[str], logs: Path) -> None:
        self.slots, self.logs = list(slots), logs
        self.threads = threads_per_process(len(slots))
        self.all_gpus = len(slots) if all(slots) else 0
        self.words = (f'GPUs {", ".join(slots)}' if self.all_gpus else f'CPUs, up to {len(slots)} jobs at a time with '
                      f'{self.threads} threads each')

    def has_room(self, job: Job) -> bool:
        return len(self.slots) >= self._slots_for(job)

    def start(self, job: Job) -> Running:
        """Starts a job with as many GPUs as it wants, or with all where it wants more; on CPUs it takes one slot."""
        number = self._slots_for(job)
        taken, self.slots = self.slots[:number], self.slots[number:]
        return _Process(job, taken, self)

    def _slots_for(self, job: Job) -> int:
        return max(1, min(job.gpus, self.all_gpus))


class _Process:
    def __init__(self, job: Job, slots: list[str], place: Processes) -> None:
        self.slots, self.place, self.log = slots, place, place.logs / f'{job.name}.log'
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = child_environment() | {
            'OMP_NUM_THREADS': str(place.threads), 'CUDA_VISIBLE_DEVICES': ','.join(slots)}  # '' hides all GPUs
        with open(self.log, 'ab') as log:
            self.child = subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env=environment)

    def ended(self) -> bool:
        if self.child.poll() is None:
            return False
        self.place.slots += self.slots
        self.slots = []
        return True

    def failure(self) -> str | None:
        code = self.child.returncode
        if code < 0:
            return (f'the process was ended by {signal.Signals(-code).name}'
                    + (', as where memory is short' if code == -signal.SIGKILL else ''))
        return f'the process ended with exit code {code}: {tail(self.log, 600).strip()}' if code else None

    def stop(self) -> None:
        self.child.terminate()

    def wait(self) -> None:
        self.child.wait()


class Slurm:
    """Jobs of Slurm, by submitit: `pip install -e ".[slurm]"`.

    Args:
        logs: for the files of submitit.
        options: of `submitit.AutoExecutor.update_parameters`, such as slurm_partition, timeout_min, gpus_per_node; and
            `cluster`, which is 'slurm' where it is not set; 'local' runs the same jobs on this machine.

    Raises:
        ValueError: submitit is not installed, there is no Slurm here, or an option does not exist.
    """

    words = 'jobs of Slurm'

    def __init__(self, options: dict[str, str], logs: Path) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ValueError('--slurm wants submitit: python -m pip install -e ".[slurm]"') from error
        given = {key: int(value) if value.isdigit() else value for key, value in options.items()}
        try:
            self.executor = submitit.AutoExecutor(str(logs), cluster=given.pop('cluster', 'slurm'))
            self.executor.update_parameters(name='transfer', **given)
        except (RuntimeError, ValueError, NameError, AssertionError, TypeError) as error:
            raise ValueError(f'--slurm: {error}') from error

    def has_room(self, job: Job) -> bool:
        """Always: Slurm makes jobs wait."""
        return True

    def start(self, job: Job) -> Running:
        """Submits a job."""
        return _Submitted(self.executor.submit(Work(job.command)))


class Work:
    """What a job of Slurm does; one that is at its time limit, or preempted, is submitted again and goes on."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)

    def __call__(self) -> None:
        subprocess.run(self.command, check=True, stdin=subprocess.DEVNULL, env=child_environment())

    def checkpoint(self) -> object:
        """Asked by submitit before such an end."""
        from submitit.helpers import DelayedSubmission
        return DelayedSubmission(self)


class _Submitted:
    def __init__(self, job: object) -> None:
        self.job = job

    def ended(self) -> bool:
        return self.job.done()

    def failure(self) -> str | None:
        error = self.job.exception()
        return None if error is None else f'job {self.job.job_id}: {str(error).strip()[-600:]}'

    def stop(self) -> None:
        self.job.cancel()

    def wait(self) -> None:
        """Does not: Slurm ends it."""
