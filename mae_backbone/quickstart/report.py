"""The report of tools/quickstart.py: table, curves and pictures of what two starts of the same training came to."""
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config

from mae_backbone.data.files import list_images
from mae_backbone.prediction.comparison import draw_predictions
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.html_report import figure, html_table, link, markdown_table, page, paragraph
from mae_backbone.utils.image_grid import save_picture
from mae_backbone.utils.run_logs import DONE, curve

TRANSFER = 'transfer'  # the step of tools/transfer.py
INITS = {'mae': 'from the MAE', 'random': 'from random weights'}


class Task(NamedTuple):
    """A task of the quickstart: folder of its data in the scenes; its metrics as MMEngine logs them, their titles."""

    name: str
    folder: str
    metrics: dict[str, str]
    percent: float  # what a logged value is multiplied with to be in percent


TASKS = (
    Task('detection', '', {'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'}, 100.0),
    Task('segmentation', '', {'mIoU': 'mIoU'}, 1.0),
    Task('classification', 'classes', {'accuracy/top1': 'top-1'}, 1.0),
)


def write_report(work_dir: Path, *, configs: Path, pretrained_on: Path) -> Path:
    """Writes report.md, index.html, results.json and their pictures into `work_dir`; returns index.html.

    Args:
        work_dir: with the folders of the finished steps.
        configs: the folder of the configs that they ran.
        pretrained_on: the images that the MAE saw.
    """
    rows = frozen_results(work_dir / TRANSFER) + results(work_dir)
    write_text(work_dir / 'results.json', json.dumps(rows, indent=1))
    pictures = {'curves.png': 'Validation while training; the budget is the same for both.'}
    draw_curves(work_dir)
    pictures |= _reconstructions(work_dir)
    for task in TASKS:
        name = f'{task.name}.png'
        save_picture(str(work_dir / name), draw_task(task, work_dir, configs=configs))
        pictures[name] = f'{task.name.capitalize()} on validation scenes that neither training saw.'
    title = 'What the pretraining is worth'
    intro = (f'A small MAE was pretrained on {len(list_images(pretrained_on)):,} unlabeled images in '
             f'{minutes(work_dir, "mae"):.1f} minutes. Each task was then trained twice with the same budget: from its '
             'weights, and from random ones. All values are percent, of one run each; those of frozen features are '
             'means over seeds.')
    write_text(work_dir / 'report.md', _markdown(title, intro, rows, pictures))
    write_text(work_dir / 'index.html', _page(title, intro, rows, pictures))
    return work_dir / 'index.html'


def results(work_dir: Path) -> list[dict]:
    """A row for each task, metric and start: the last value in percent, and the minutes of the training."""
    rows = []
    for task in TASKS:
        for key, metric in task.metrics.items():
            for init in INITS:
                values = curve(work_dir / f'{task.name}_{init}', key)
                rows.append({'task': task.name, 'metric': metric, 'init': init,
                             'value': round(values[-1][1] * task.percent, 2),
                             'minutes': round(minutes(work_dir, f'{task.name}_{init}'), 2)})
    return rows


def frozen_results(folder: Path) -> list[dict]:
    """The same rows from the results of tools/transfer.py; the value is the mean over its seeds."""
    record = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
    rows = []
    for row in record['table']:
        cells = [cell for cell in record['cells'] if (cell['task'], cell['model']) == (row['task'], row['model'])]
        rows.append({'task': f'frozen features, {row["task"]}', 'metric': row['metric'],
                     'init': 'random' if row['model'] == 'random' else 'mae',
                     'value': round(row['summary']['mean'], 2),
                     'minutes': round(sum(cell['seconds'] for cell in cells) / 60, 4)})
    return rows


def minutes(work_dir: Path, step: str) -> float:
    """How long a finished step took, all attempts together."""
    return float((work_dir / step / DONE).read_text()) / 60


def draw_curves(work_dir: Path) -> None:
    """Writes curves.png: each task's first metric over its iterations, from both starts."""
    drawn = Figure(figsize=(4 * len(TASKS), 3.2), layout='constrained')
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(1, len(TASKS))
    for axis, task in zip(axes, TASKS, strict=True):
        key, metric = next(iter(task.metrics.items()))
        for init, style in (('mae', 'o-'), ('random', 's--')):
            steps, values = zip(*curve(work_dir / f'{task.name}_{init}', key), strict=True)
            axis.plot(steps, np.array(values) * task.percent, style, label=INITS[init])
        axis.set(title=f'{task.name}: {metric}', xlabel='iteration', ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend()
    drawn.savefig(work_dir / 'curves.png', dpi=110)


def draw_task(task: Task, work_dir: Path, *, configs: Path, images: int = 5) -> np.ndarray:
    """Validation images of a task: what is there, what is found from the MAE, what from random weights."""
    models = {words: (Config.fromfile(configs / f'quickstart_{task.name}.py'),
                      (work_dir / f'{task.name}_{init}' / 'last_checkpoint').read_text().strip())
              for init, words in INITS.items()}
    return draw_predictions(models, data_root=work_dir / 'scenes' / task.folder, images=images)


def _reconstructions(work_dir: Path) -> dict[str, str]:
    drawn = sorted((work_dir / 'mae' / 'reconstructions').glob('*.png'), key=lambda file: file.stat().st_mtime)
    if not drawn:
        return {}
    return {drawn[-1].relative_to(work_dir).as_posix():
            'Pretraining: original, what the encoder saw, and what the decoder made of it.'}


def _cells(rows: list[dict]) -> Iterable[tuple[str, ...]]:
    """The rows of the table, both starts of a metric in one."""
    for mae, random in zip(rows[::2], rows[1::2], strict=True):  # in the order of INITS
        yield (mae['task'], mae['metric'], f'{mae["value"]:.1f}', f'{random["value"]:.1f}',
               f'{mae["value"] - random["value"]:+.1f}', f'{mae["minutes"]:.1f} / {random["minutes"]:.1f}')


_HEAD = ('task', 'metric', *INITS.values(), 'difference', 'minutes')


def _markdown(title: str, intro: str, rows: list[dict], pictures: dict[str, str]) -> str:
    lines = [f'# {title}', '', intro, '', markdown_table(_HEAD, _cells(rows)), '']
    for name, words in pictures.items():
        lines += [words, '', f'![{words}]({name})', '']
    return '\n'.join(lines)


def _page(title: str, intro: str, rows: list[dict], pictures: dict[str, str]) -> str:
    figures = [figure(name, words) for name, words in pictures.items()]
    more = link(f'{TRANSFER}/report.html', 'What the frozen features see: neighbors, attention, main directions.')
    return page(title, [paragraph(intro), html_table(_HEAD, _cells(rows)), more, *figures])
