"""A benchmark from its command to its report."""
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from filelock import FileLock

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import find_encoders
from mae_backbone.transfer.executors import Job, Place, Processes, Slurm
from mae_backbone.transfer.figure_plan import plan_pictures
from mae_backbone.transfer.planning import Benchmark, known_names, plan
from mae_backbone.transfer.report import write_report
from mae_backbone.transfer.scheduler import run_jobs, say
from mae_backbone.transfer.suite import load_suite
from mae_backbone.utils.cpu import available_cpus


def run(suite: str, checkpoints: Sequence[str], against: Sequence[str], *, data_root: Path, out: Path, root: Path,
        only: dict[str, Sequence | None] | None = None, gpus: str | None = None, jobs: int | None = None,
        slurm: Sequence[str] | None = None) -> tuple[dict[Path, str], Path]:
    """Runs what is not finished of a suite, and writes the report.

    Args:
        suite: name or path.
        checkpoints, against: see `find_encoders`.
        data_root: of the data sets.
        out: for everything that is written.
        root: the folder of `tools` and `configs`.
        only: arguments of `Suite.only`.
        gpus, jobs, slurm: where it runs, see tools/transfer.py.

    Returns:
        The folders of the cells that failed with their last lines, and the page to open.

    Raises:
        ValueError: a mistake in what was asked for; nothing has run then.
    """
    begin = time.time()
    chosen = load_suite(suite, root / 'configs').only(**only or {})
    encoders = find_encoders(checkpoints, against, known_names(out))
    benchmark = Benchmark(chosen, tuple(encoders), data_root, out, root)
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / 'plan.lock'):  # two machines may begin at the same time
        planned = plan(benchmark)
    cells = [folder for job in planned for folder in job.folders]
    done = sum(experiment_dir.result_of(folder) is not None for folder in cells)
    say(f'{benchmark.suite.title}: {", ".join(encoder.name for encoder in benchmark.encoders)}; {len(cells)} cells in '
        f'{len(planned)} jobs, {done} finished before; results go to {out}')
    place = place_of(planned, out, gpus, jobs, slurm)
    say(f'runs on: {place.words}')
    failed = run_jobs(planned, place)
    with FileLock(out / 'plan.lock'):
        drawing = plan_pictures(benchmark)
    say(f'pictures: {len(drawing)} jobs')
    failed |= run_jobs(drawing, place_of(drawing, out, gpus, jobs, slurm))
    drawn = [folder for job in drawing for folder in job.folders if folder not in failed]
    with FileLock(out / 'report.lock'):  # two processes may come to the end at the same time
        page = write_report(benchmark, failed=failed, pictures=drawn, seconds=time.time() - begin,
                            command=shlex.join(sys.argv), only=only or {})
    return failed, page


def place_of(jobs: Sequence[Job], out: Path, gpus: str | None, together: int | None,
             slurm: Sequence[str] | None) -> Place:
    """Where jobs are to run, as the options of the tool say; without any on all GPUs, on CPUs where there are none.

    Raises:
        ValueError: options that contradict one another.
    """
    given = [name for name, value in (('--gpus', gpus), ('--jobs', together), ('--slurm', slurm)) if value is not None]
    if len(given) > 1:
        raise ValueError(f'{" and ".join(given)} exclude one another: choose one')
    if slurm is not None:
        if not all('=' in word for word in slurm):
            raise ValueError(f'--slurm {" ".join(slurm)}: wanted KEY=VALUE, such as slurm_partition=gpu')
        return Slurm(dict(word.split('=', 1) for word in slurm), out / 'slurm')
    if gpus is not None:
        slots = [word.strip() for word in gpus.split(',')]
        if not all(slots) or len(set(slots)) < len(slots):
            raise ValueError(f'--gpus {gpus}: wanted numbers with commas, such as 0,1')
        return Processes(slots, out / 'jobs')
    if together is not None and together < 1:
        raise ValueError(f'--jobs {together}: wanted 1 or more')
    found = visible_gpus() if together is None else []
    if found:
        return Processes(found, out / 'jobs')
    return Processes([''] * max(1, min(together or available_cpus(), len(jobs))), out / 'jobs')


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them for one that it starts."""
    if not torch.cuda.is_available():
        return []
    named = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name.strip()]
    return (named or [str(number) for number in range(torch.cuda.device_count())])[:torch.cuda.device_count()]
