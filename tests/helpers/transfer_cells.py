"""Cells whose training is a few lines of Python. Everything else that runs them is the real code."""
import sys
from pathlib import Path

import pytest

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.executors import Job

STUB_WORKER = Path(__file__).with_name('stub_worker.py')
STUB = '''
import json, os, pathlib, sys
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
work = pathlib.Path(arguments['--work-dir'])
root = pathlib.Path(__file__).parent
seed = int(arguments['--seed'])
with open(root / 'ran', 'a') as file:
    file.write(f'{work.parent.name} ')
BODY
logs = work / '1' / 'vis_data'
logs.mkdir(parents=True, exist_ok=True)
(logs / 'scalars.json').write_text(json.dumps({'accuracy/top1': 50.0 + seed, 'step': 1}))
'''


def write_stub(root: Path, body: str = '') -> Path:
    """Writes a program that takes the place of mae-backbone: it records its cell in root/ran, runs `body`, and logs an
    accuracy of 50 + seed.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / 'stub_program.py').write_text(STUB.replace('BODY', body))
    return root


def use_stub(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Jobs run the program that `write_stub` wrote into `root`."""
    monkeypatch.setattr(Job, 'command', property(lambda job: stub_command(job, root)))


def stub_command(job: Job, root: Path) -> list[str]:
    return [sys.executable, str(STUB_WORKER), str(root), *map(str, job.folders)]


def ran(root: Path) -> list[str]:
    """The cells that were started, in order."""
    path = root / 'ran'
    return path.read_text().split() if path.exists() else []


def write_job(out: Path, name: str, *, cells: int = 1, gpus: int = 1) -> Job:
    """A job of cells with the seeds 0, 1, ..."""
    folders = tuple(out / f'{name}{seed}' for seed in range(cells))
    for seed, folder in enumerate(folders):
        spec = {'kind': 'train', 'config': 'none.py', 'data_root': 'data', 'labels': 1.0,
                'seed': seed, 'gpus': gpus, 'amp': False, 'options': {}, 'metrics': {'accuracy/top1': 'top-1'},
                'scale': 1.0}
        experiment_dir.write_spec(folder, spec, {'checkpoint': None, 'config': 'none.py'})
    return Job(name, folders, gpus)


def values(job: Job) -> list[float]:
    results = [experiment_dir.read_result(folder) for folder in job.folders]
    return [result['values']['top-1'] for result in results if result is not None]
