"""Runs the cells of a benchmark, each once, whatever happens to the others."""
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.executors import Job, Place, Running
from mae_backbone.utils.run_logs import progress, tail

POLL = 0.3  # seconds between two looks at what runs


def run_jobs(jobs: Sequence[Job], place: Place) -> dict[Path, str]:
    """Runs all cells of `jobs` that are not done; returns those that failed, with their last lines.

    What another process works at is waited for. Cells that failed in an earlier run are tried again.
    """
    for job in jobs:
        for folder in job.folders:
            if not experiment_dir.is_claimed(folder):
                (folder / experiment_dir.ERROR).unlink(missing_ok=True)
    return _Work(jobs, place).run()


class _Work:
    def __init__(self, jobs: Sequence[Job], place: Place) -> None:
        self.waiting, self.place = list(jobs), place
        self.running: list[tuple[Job, Running]] = []
        self.failed: dict[Path, str] = {}
        self.shown = time.monotonic()

    def run(self) -> dict[Path, str]:
        try:
            while self.waiting or self.running:
                self._start()
                if self.running or self.waiting:
                    time.sleep(POLL)
                self._collect()
                self._show()
        finally:
            for _, running in self.running:  # all at once: each may take its time to save what it has
                running.stop()
            for _, running in self.running:
                running.wait()
        return self.failed

    def _start(self) -> None:
        """Starts what there is room for; drops jobs without open cells, passes over those that another process has."""
        waiting, self.waiting = self.waiting, []
        for job in waiting:
            left = job._replace(folders=tuple(folder for folder in job.folders if self._open(folder)))
            if not left.folders:
                continue
            # Room first: a look at a claim takes it for a moment, and keeps others out.
            if not self.place.has_room(left) or any(map(experiment_dir.is_claimed, left.folders)):
                self.waiting.append(left)
            else:
                self.running.append((left, self.place.start(left)))

    def _open(self, folder: Path) -> bool:
        """Whether a cell is still to be run; notes one that failed, here or in another process."""
        if experiment_dir.result_of(folder) is not None:
            return False
        error = experiment_dir.error_of(folder)
        if error is not None:
            self.failed.setdefault(folder, error)
        return folder not in self.failed

    def _collect(self) -> None:
        for job, running in [pair for pair in self.running if pair[1].ended()]:
            self.running.remove((job, running))
            left = [folder for folder in job.folders if self._open(folder)]
            reason = running.failure()
            mine = [folder for folder in left if not experiment_dir.is_claimed(folder)] if reason else []
            if mine:
                died_at = max(mine, key=_last_written)
                experiment_dir.note_error(died_at, reason)
                self._open(died_at)
            done = len(job.folders) - len(left)
            say(f'   {job.name}: ' + (f'{done} of {len(job.folders)} cells' if left else 'ended')
                + ''.join(f'\n      FAILED {folder}' for folder in job.folders if folder in self.failed))
            if left:
                self.waiting.append(job)

    def _show(self) -> None:
        """How far the running cells are: in place on a terminal, else every 30 s."""
        live = sys.stdout.isatty()
        if time.monotonic() - self.shown < (1 if live else 30) or not self.running:
            return
        self.shown = time.monotonic()
        line = '   ' + '; '.join(f'{job.name}: {self._progress(job)}' for job, _ in self.running)
        print(f'\r{line[:110]:<110}' if live else line, end='' if live else '\n', flush=True)

    def _progress(self, job: Job) -> str:
        current = next((folder for folder in job.folders if self._open(folder)), job.folders[-1])
        return progress(tail(current / experiment_dir.LOG))


def _last_written(folder: Path) -> float:
    """When the log of a cell was begun or written to last."""
    log = folder / experiment_dir.LOG
    return log.stat().st_mtime if log.exists() else 0.0


def say(line: str) -> None:
    print(('\r' if sys.stdout.isatty() else '') + line, flush=True)
