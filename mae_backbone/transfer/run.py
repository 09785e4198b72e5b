"""Runs `mae-backbone transfer`: selects encoders and jobs by the options, runs the jobs, and writes the report."""
import os
import shlex
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import Encoder, find_encoders
from mae_backbone.transfer.executors import Executor, Job, LocalExecutor, SlurmExecutor
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.figure_plan import plan_figures
from mae_backbone.transfer.planning import known_names, plan, set_aside_broken
from mae_backbone.transfer.report import write_report
from mae_backbone.transfer.scheduler import run_jobs
from mae_backbone.transfer.suite import Suite, load_suite
from mae_backbone.transfer.task import PEER_PACKAGES
from mae_backbone.utils.cpu import available_cpus
from mae_backbone.utils.run_logs import print_line


def run_transfer(suite: str, checkpoints: Sequence[str], against: Sequence[str] | None, *, data_root: Path,
                 work_dir: Path, only: dict[str, Sequence[Any] | None] | None = None, length: float = 1.0,
                 gpus: str | None = None, jobs: int | None = None, slurm: Sequence[str] | None = None
                 ) -> tuple[dict[Path, str], Path]:
    """Runs the cells of a suite that are not finished, and writes the report.

    Args:
        suite: name or path of the suite.
        checkpoints: encoders to evaluate, in the forms of `find_encoders`. If empty, the encoders of the suite are
            evaluated.
        against: references, in the same forms, or 'random'; None for `against` of the suite.
        data_root: folder of the data sets.
        work_dir: output folder. If several processes run the same suite in it, each runs a part of the cells.
        only: arguments of `Suite.only`.
        length: factor by which the length of every training is multiplied, including trainings of encoders.
        gpus: GPUs to use, such as '0,1'.
        jobs: number of jobs at a time on CPUs.
        slurm: parameters of Slurm, such as ['slurm_partition=gpu'].

    Returns:
        Error of each failed cell by its folder, and the path of the report.

    Raises:
        ValueError: an option is wrong. The error is raised before any cell runs.
    """
    start = time.time()
    selected = load_suite(suite).only(**only or {})
    selected, encoders = select_encoders(selected, checkpoints, against, work_dir)
    experiment = Experiment(selected, tuple(encoders), data_root, work_dir, length)
    work_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(work_dir / 'plan.lock'):  # several machines may start at the same time
        for line in set_aside_broken(experiment):
            print_line(line)
        planned = plan(experiment)
    check_peers(planned)
    cells = [folder for job in planned for folder in job.folders]
    finished = sum(experiment_dir.read_result(folder) is not None for folder in cells)
    print_line(f'{selected.title}: {", ".join(experiment.models)}; {len(cells)} cells in '
               f'{len(planned)} jobs, {finished} finished before; results go to {work_dir}')
    executor = select_executor(planned, work_dir, gpus, jobs, slurm)
    print_line(f'runs on: {executor.description}')
    failed = run_jobs(planned, executor)
    with FileLock(work_dir / 'plan.lock'):
        figure_jobs = plan_figures(experiment)
    print_line(f'figures: {len(figure_jobs)} jobs')
    failed |= run_jobs(figure_jobs, select_executor(figure_jobs, work_dir, gpus, jobs, slurm))
    figures = [folder for job in figure_jobs for folder in job.folders if folder not in failed]
    with FileLock(work_dir / 'report.lock'):  # several processes may end at the same time
        page = write_report(experiment, failed=failed, figures=figures, seconds=time.time() - start,
                            command=shlex.join(sys.argv), only=only or {})
    return failed, page


def check_peers(jobs: Sequence[Job]) -> None:
    """Checks that the packages of the peers in unfinished cells are installed, and that peers fit their configs.

    Raises:
        ValueError: a package is not installed, or a config is one of another kind of model.
    """
    folders = [folder for job in jobs for folder in job.folders if experiment_dir.read_result(folder) is None]
    for spec in (spec for spec in map(experiment_dir.read_spec, folders) if 'peer' in spec):
        package = PEER_PACKAGES.get(spec['peer'])
        if package and find_spec(package) is None:
            raise ValueError(f'the peer {spec["peer"]} needs the package {package}, which is not installed: run '
                             f'`python -m pip install {package.replace("_", "-")}`, or select other tasks with --tasks')
        # Imported here because most suites have no peers, and torchvision's detectors take a second.
        from mae_backbone.transfer.peers.registry import check_peer
        check_peer(spec)


def select_encoders(suite: Suite, checkpoints: Sequence[str], against: Sequence[str] | None, work_dir: Path
                    ) -> tuple[Suite, list[Encoder]]:
    """Returns the suite with only the data sets that the encoders are for, and the encoders with the references.

    Raises:
        ValueError: there are no encoders, or none of them is for a data set of the suite.
    """
    against = suite.against if against is None else against
    named = {entry.name for entry in suite.encoders.values() if any(map(entry.is_for, suite.data))}
    if not checkpoints:
        references = {suite.encoders[name].name if name in suite.encoders else name for name in against}
        checkpoints = [name for name in dict.fromkeys(entry.name for entry in suite.encoders.values())
                       if name in named and name not in references]
    if not checkpoints:
        raise ValueError(f'the suite {suite.name} has no encoders to evaluate: pass --checkpoint')
    encoders = [encoder for encoder in find_encoders(checkpoints, against, known_names(work_dir), suite.encoders)
                if any(map(encoder.is_for, suite.data))]
    data = [name for name in suite.data
            if any(encoder.is_for(name) and not encoder.reference for encoder in encoders)]
    if not data:
        raise ValueError(f'--checkpoint {" ".join(checkpoints)}: none of these encoders is for the data '
                         f'{", ".join(suite.data)}')
    suite = suite.only(data=data)
    return suite, [encoder for encoder in encoders if any(map(encoder.is_for, suite.data))]


def select_executor(jobs: Sequence[Job], work_dir: Path, gpus: str | None, num_jobs: int | None,
                    slurm: Sequence[str] | None) -> Executor:
    """Returns the executor that the options select. The default is all GPUs, or the CPUs if there are no GPUs.

    Raises:
        ValueError: two options exclude each other, or an option has a wrong value.
    """
    given = [name for name, value in (('--gpus', gpus), ('--jobs', num_jobs), ('--slurm', slurm)) if value is not None]
    if len(given) > 1:
        raise ValueError(f'{" and ".join(given)} exclude each other: choose one')
    logs = work_dir / 'jobs'
    if slurm is not None:
        if not all('=' in word for word in slurm):
            raise ValueError(f'--slurm {" ".join(slurm)}: expected KEY=VALUE, such as slurm_partition=gpu')
        return SlurmExecutor(dict(word.split('=', 1) for word in slurm), work_dir / 'slurm')
    if gpus is not None:
        slots = [word.strip() for word in gpus.split(',')]
        if not all(slots) or len(set(slots)) < len(slots):
            raise ValueError(f'--gpus {gpus}: expected numbers separated by commas, such as 0,1')
        _check_gpus(slots)
        return LocalExecutor(slots, logs)
    if num_jobs is not None and num_jobs < 1:
        raise ValueError(f'--jobs {num_jobs}: expected 1 or more')
    slots = visible_gpus() if num_jobs is None else []
    return LocalExecutor(slots or [''] * max(1, min(num_jobs or available_cpus(), len(jobs))), logs)


def _check_gpus(names: Sequence[str]) -> None:
    """Raises ValueError if a GPU does not exist. Its jobs would run on a CPU, and count wall-clock minutes."""
    option = f'--gpus {",".join(names)}'
    if not torch.cuda.is_available():
        raise ValueError(f'{option}: PyTorch finds no GPU on this machine: run on its CPUs without --gpus')
    count = torch.cuda.device_count()
    # With CUDA_VISIBLE_DEVICES, numbers of GPUs may be larger than the number of visible ones.
    if 'CUDA_VISIBLE_DEVICES' not in os.environ and any(name.isdecimal() and int(name) >= count for name in names):
        raise ValueError(f'{option}: this machine has {count} GPUs, expected numbers from 0 to {count - 1}')


def visible_gpus() -> list[str]:
    """Returns names of the GPUs of this process that can be used in CUDA_VISIBLE_DEVICES of a child process."""
    if not torch.cuda.is_available():
        return []
    names = [name.strip() for name in os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',') if name.strip()]
    return (names or [str(number) for number in range(torch.cuda.device_count())])[:torch.cuda.device_count()]
