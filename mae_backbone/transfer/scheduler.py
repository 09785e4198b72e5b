"""Scheduler that runs each cell of an experiment once, and continues with the other cells if one fails."""
import time
from collections.abc import Sequence
from pathlib import Path

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.executors import Executor, Job, RunningJob
from mae_backbone.utils.run_logs import ProgressLine, print_line, progress, tail

POLL_SECONDS = 0.3  # between two polls of the running jobs
NOT_RUN = 'not run because'  # first words of the error of a cell that was not run because another cell failed


def run_jobs(jobs: Sequence[Job], executor: Executor) -> dict[Path, str]:
    """Runs all cells of `jobs` that are not finished. Cells that failed in an earlier run are run again.

    Waits for cells that another process runs, and for the cells in `Job.after`. If a cell in `Job.after` fails, the
    cells of the job are not run.

    Returns:
        Error of each failed cell by its folder: the reason and the last lines of the log.
    """
    for job in jobs:
        for folder in job.folders:
            if not experiment_dir.is_locked(folder):
                (folder / experiment_dir.ERROR).unlink(missing_ok=True)
    return _Scheduler(jobs, executor).run()


class _Scheduler:
    def __init__(self, jobs: Sequence[Job], executor: Executor) -> None:
        self.waiting, self.executor = list(jobs), executor
        self.running: list[tuple[Job, RunningJob]] = []
        self.failed: dict[Path, str] = {}
        self.progress_line = ProgressLine()

    def run(self) -> dict[Path, str]:
        try:
            while self.waiting or self.running:
                self._start()
                if self.running or self.waiting:
                    time.sleep(POLL_SECONDS)
                self._collect()
                if self.running:
                    self.progress_line.show(self._describe_progress)
        finally:
            for _, running in self.running:  # all jobs are canceled before waiting, so that they save in parallel
                running.cancel()
            for _, running in self.running:
                running.wait()
        return self.failed

    def _start(self) -> None:
        """Starts as many jobs as the executor can start, except jobs with cells that another process runs.

        Jobs whose cells are all finished or failed are removed from the queue.
        """
        waiting, self.waiting = self.waiting, []
        for job in waiting:
            pending = job._replace(folders=tuple(folder for folder in job.folders if self._is_pending(folder)))
            if not pending.folders or self._lacks_encoder(pending):
                continue
            if not all(experiment_dir.read_result(folder) is not None for folder in job.after):
                self.waiting.append(pending)
                continue
            # `is_locked` is called last because it locks the folder for a moment, in which no other process can start.
            if not self.executor.can_start(pending) or any(map(experiment_dir.is_locked, pending.folders)):
                self.waiting.append(pending)
            else:
                self.running.append((pending, self.executor.submit(pending)))

    def _lacks_encoder(self, job: Job) -> bool:
        """True if a cell in `Job.after` has failed. In this case, records an error for all cells of the job."""
        for needed in job.after:
            if needed in self.failed and experiment_dir.read_result(needed) is None:
                reason = self.failed[needed].splitlines()[0]
                name = experiment_dir.read_spec(needed)['where'].get('name', needed)
                cause = reason if reason.startswith(NOT_RUN) else f'{NOT_RUN} {name} was not made: {reason}'
                self.failed.update((folder, cause) for folder in job.folders)
                return True
        return False

    def _is_pending(self, folder: Path) -> bool:
        """True if a cell is neither finished nor failed. Records the error of a cell that failed in any process."""
        if experiment_dir.read_result(folder) is not None:
            return False
        error = experiment_dir.read_error(folder)
        if error is not None:
            self.failed.setdefault(folder, error)
        return folder not in self.failed

    def _collect(self) -> None:
        """Handles the jobs that have ended.

        If the process of a job was killed, the cell that it was running has failed, and its other cells run again.
        """
        for job, running in [pair for pair in self.running if pair[1].done()]:
            self.running.remove((job, running))
            pending = [folder for folder in job.folders if self._is_pending(folder)]
            reason = running.failure()
            if reason is not None:
                unlocked = [folder for folder in pending if not experiment_dir.is_locked(folder)]
                if unlocked:
                    died_at = max(unlocked, key=_last_written)
                    experiment_dir.write_error(died_at, reason)
                    self._is_pending(died_at)
            finished = len(job.folders) - len(pending)
            print_line(f'   {job.name}: ' + (f'{finished} of {len(job.folders)} cells' if pending else 'done')
                       + ''.join(f'\n      FAILED {folder}' for folder in job.folders if folder in self.failed))
            if pending:
                self.waiting.append(job)

    def _describe_progress(self) -> str:
        return '   ' + '; '.join(f'{job.name}: {self._progress(job)}' for job, _ in self.running)

    def _progress(self, job: Job) -> str:
        current = next((folder for folder in job.folders if self._is_pending(folder)), job.folders[-1])
        return progress(tail(current / experiment_dir.LOG))


def _last_written(folder: Path) -> float:
    """Time at which the log of a cell was created or last written."""
    log = folder / experiment_dir.LOG
    return log.stat().st_mtime if log.exists() else 0.0
