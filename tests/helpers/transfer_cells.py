"""Cells whose training is a few lines of Python: what runs them is the real thing."""
import json
from pathlib import Path

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.executors import Job

TOOL = '''
import json, pathlib, sys
arguments = dict(zip(sys.argv[2::2], sys.argv[3::2]))
work = pathlib.Path(arguments['--work-dir'])
seed = int(arguments['--seed'])
with open(pathlib.Path(__file__).parent / 'ran', 'a') as file:
    file.write(f'{work.parent.name} ')
BODY
logs = work / '1' / 'vis_data'
logs.mkdir(parents=True)
(logs / 'scalars.json').write_text(json.dumps({'accuracy/top1': 50.0 + seed, 'step': 1}))
'''


def write_tool(root: Path, body: str = '') -> Path:
    """A tools/train.py that notes its runs in tools/ran, does `body` and logs 50 + seed as its accuracy."""
    (root / 'tools').mkdir(parents=True, exist_ok=True)
    (root / 'tools' / 'train.py').write_text(TOOL.replace('BODY', body))
    return root


def ran(root: Path) -> list[str]:
    """The cells that were begun, in their order."""
    path = root / 'tools' / 'ran'
    return path.read_text().split() if path.exists() else []


def write_job(out: Path, root: Path, name: str, *, cells: int = 1, gpus: int = 1) -> Job:
    """A job of cells with the seeds 0, 1, ..."""
    folders = tuple(out / f'{name}{seed}' for seed in range(cells))
    for seed, folder in enumerate(folders):
        spec = {'kind': 'train', 'config': 'none.py', 'data_root': 'data', 'labels': 1.0, 'seed': seed, 'gpus': gpus,
                'amp': False, 'options': {}, 'metrics': {'accuracy/top1': 'top-1'}, 'scale': 1.0}
        experiment_dir.write_spec(folder, spec, {'root': str(root), 'checkpoint': None})
    return Job(name, folders, gpus)


def values(job: Job) -> list[float]:
    return [json.loads((folder / experiment_dir.RESULT).read_text())['values']['top-1'] for folder in job.folders]
