"""Executors of jobs: processes of this machine, with or without GPUs, or Slurm."""
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mae_backbone.utils.cpu import threads_per_process
from mae_backbone.utils.run_logs import tail
from mae_backbone.utils.subprocesses import child_environment

if TYPE_CHECKING:
    import submitit
    from submitit.helpers import DelayedSubmission


class Job(NamedTuple):
    """Cells that one process runs, one after the other.

    Attributes:
        name: name of the log file.
        folders: folders of the cells.
        gpus: number of GPUs that the job uses if the machine has them.
        after: folders of cells of other jobs. The job starts after they are finished, because it needs their results.
    """

    name: str
    folders: tuple[Path, ...]
    gpus: int = 1
    after: tuple[Path, ...] = ()

    @property
    def command(self) -> list[str]:
        """Command line of the process."""
        return [sys.executable, '-m', 'mae_backbone.transfer.worker', *map(str, self.folders)]


class RunningJob(Protocol):
    """A job that was submitted."""

    def done(self) -> bool:
        """Returns True once the job has ended, and frees its resources."""

    def failure(self) -> str | None:
        """Returns the reason why the process of an ended job failed, or None if it ended with exit code 0."""

    def cancel(self) -> None:
        """Asks the job to end. The job may save first."""

    def wait(self) -> None:
        """Waits for the end of a canceled job if it is a process of this machine."""


class Executor(Protocol):
    """Runs jobs."""

    @property
    def description(self) -> str:
        """Description for log messages."""

    def can_start(self, job: Job) -> bool:
        """True if `submit` would start the job now."""

    def submit(self, job: Job) -> RunningJob:
        """Starts a job."""


class LocalExecutor:
    """Runs each job as a process of this machine.

    submitit's LocalExecutor is not used, for four reasons. It accepts only integer GPU ids, but CUDA_VISIBLE_DEVICES
    may contain UUIDs and MIG names. It needs SIGUSR2, which Windows does not have. Its jobs continue when the parent
    process is killed. It kills a canceled job after one second, before a training can save its state.

    Args:
        slots: one entry for each job that may run at the same time: the name of its GPU, or '' for a job on CPUs. Jobs
            on CPUs get equal numbers of threads.
        logs: folder of the log files.
    """

    def __init__(self, slots: Sequence[str], logs: Path) -> None:
        self.free_slots, self.logs = list(slots), logs
        self.threads = threads_per_process(len(slots))
        self.num_gpus = len(slots) if all(slots) else 0
        self.description = (f'GPUs {", ".join(slots)}' if self.num_gpus else
                            f'CPUs, up to {len(slots)} jobs at a time with {self.threads} threads each')

    def can_start(self, job: Job) -> bool:
        """True if enough slots are free."""
        return len(self.free_slots) >= self._num_slots(job)

    def submit(self, job: Job) -> 'LocalJob':
        """Starts a job on `job.gpus` GPUs, or on all GPUs if there are fewer. A job on CPUs uses one slot."""
        number = self._num_slots(job)
        slots, self.free_slots = self.free_slots[:number], self.free_slots[number:]
        return LocalJob(job, slots, self)

    def _num_slots(self, job: Job) -> int:
        return max(1, min(job.gpus, self.num_gpus))


class LocalJob:
    """A job that runs as a child process. It ends when this process is killed (`end_with_parent`)."""

    def __init__(self, job: Job, slots: list[str], executor: LocalExecutor) -> None:
        self.slots, self.executor, self.log = slots, executor, executor.logs / f'{job.name}.log'
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = child_environment() | {
            'OMP_NUM_THREADS': str(executor.threads), 'CUDA_VISIBLE_DEVICES': ','.join(slots)}  # '' hides all GPUs
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment)

    def done(self) -> bool:
        if self.process.poll() is None:
            return False
        self.executor.free_slots += self.slots
        self.slots = []
        return True

    def failure(self) -> str | None:
        code = self.process.returncode
        if code < 0:
            return (f'the process was ended by {signal.Signals(-code).name}'
                    + (', which most often means that memory ran out' if code == -signal.SIGKILL else ''))
        return f'the process ended with exit code {code}: {tail(self.log, 600).strip()}' if code else None

    def cancel(self) -> None:
        self.process.terminate()

    def wait(self) -> None:
        self.process.wait()


class SlurmExecutor:
    """Submits jobs to Slurm through submitit.

    Args:
        options: parameters of `submitit.AutoExecutor.update_parameters`, such as slurm_partition, timeout_min and
            gpus_per_node, and additionally `cluster`, 'slurm' by default ('local' runs the same jobs on this machine).
        logs: folder for the files of submitit.

    Raises:
        ValueError: submitit is not installed, this machine has no Slurm, or an option does not exist.
    """

    description = 'Slurm'

    def __init__(self, options: dict[str, str], logs: Path) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ValueError('--slurm needs submitit: run `python -m pip install submitit`') from error
        parameters = {key: int(value) if value.isdigit() else value for key, value in options.items()}
        cluster = str(parameters.pop('cluster', 'slurm'))
        try:
            self.executor = submitit.AutoExecutor(str(logs), cluster=cluster)
            self.executor.update_parameters(name='transfer', **parameters)
        except (RuntimeError, ValueError, NameError, AssertionError, TypeError) as error:
            raise ValueError(f'--slurm: {error}') from error

    def can_start(self, job: Job) -> bool:
        """Always True: Slurm queues jobs itself."""
        return True

    def submit(self, job: Job) -> 'SlurmJob':
        """Submits a job."""
        return SlurmJob(self.executor.submit(SlurmTask(job.command)))


class SlurmTask:
    """Function that a Slurm job runs. submitit submits it again after a preemption or a time limit."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)

    def __call__(self) -> None:
        subprocess.run(self.command, check=True, stdin=subprocess.DEVNULL, env=child_environment())

    def checkpoint(self) -> 'DelayedSubmission':
        """Returns the task to submit again. submitit calls this before a preemption or the time limit."""
        from submitit.helpers import DelayedSubmission
        return DelayedSubmission(self)


class SlurmJob:
    """A job of Slurm."""

    def __init__(self, job: 'submitit.Job[None]') -> None:
        self.job = job

    def done(self) -> bool:
        return self.job.done()

    def failure(self) -> str | None:
        error = self.job.exception()
        return None if error is None else f'job {self.job.job_id}: {str(error).strip()[-600:]}'

    def cancel(self) -> None:
        self.job.cancel()

    def wait(self) -> None:
        """Returns at once: Slurm ends the job."""
