"""Report of the quickstart: table, curves and predictions of trainings from the MAE and from random weights."""
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config

from mae_backbone.checkpoints.run_files import resume_path
from mae_backbone.data.files import list_images
from mae_backbone.prediction.comparison import draw_predictions
from mae_backbone.quickstart.tasks import INITS, TASKS, TRANSFER, Task
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.config_files import configs_root
from mae_backbone.utils.html_report import figure, html_table, link, markdown_table, page, paragraph
from mae_backbone.utils.image_grid import save_picture
from mae_backbone.utils.run_logs import curve, seconds_of_step

_KNN, _WHITENED, _LINEAR = (f'frozen features, {name}' for name in ('knn', 'knn whitened', 'linear'))
_BY_CHANCE = ('One short training each does not decide this: `mae-backbone transfer` repeats it with several seeds and '
              'states an interval.')


def write_report(work_dir: Path, *, pretrained_on: Path, length: float = 1.0) -> Path:
    """Writes report.md, index.html, results.json and their figures into `work_dir`, and returns index.html.

    Args:
        work_dir: folder of the finished steps.
        pretrained_on: folder of the images of the pretraining.
        length: factor of the iterations of all trainings.
    """
    rows = frozen_results(work_dir / TRANSFER) + results(work_dir)
    write_text(work_dir / 'results.json', json.dumps(rows, indent=1))
    draw_curves(work_dir)
    figures = {'curves.png': 'Validation during training. Both starts have the same number of iterations.',
               **_reconstructions(work_dir)}
    for task in TASKS:
        name = f'{task.name}.png'
        save_picture(str(work_dir / name), draw_task(task, work_dir))
        figures[name] = (f'{task.name.capitalize()} on validation images: the image, its labels, and the predictions '
                         'after both trainings.')
    title = 'Effect of pretraining'
    intro = (f'A small masked autoencoder (MAE) was pretrained on {len(list_images(pretrained_on)):,} unlabeled images '
             f'in {minutes(work_dir, "mae"):.1f} minutes. Each task was then trained twice in the same way, once from '
             'the weights of the MAE and once from random weights. All values are percent. Trainings ran once; values '
             'of frozen features are means over seeds.')
    lead, *explanations = verdict(rows)
    if length != 1:
        lead = f'All trainings have {length:g} of their iterations (--length), for which this was not tuned. {lead}'
    write_text(work_dir / 'report.md', _markdown(title, [lead, intro], rows, explanations, figures))
    write_text(work_dir / 'index.html', _page(title, [lead, intro], rows, explanations, figures))
    return work_dir / 'index.html'


def results(work_dir: Path) -> list[dict[str, Any]]:
    """Returns a row for each task, metric and start: the last value in percent, and the minutes of the training."""
    rows = []
    for task in TASKS:
        for key, metric in task.metrics.items():
            for init in INITS:
                values = curve(work_dir / f'{task.name}_{init}', key)
                rows.append({'task': task.name, 'metric': metric, 'init': init,
                             'value': round(values[-1][1] * task.scale, 2),
                             'minutes': round(minutes(work_dir, f'{task.name}_{init}'), 2)})
    return rows


def frozen_results(folder: Path) -> list[dict[str, Any]]:
    """Returns the same rows for the results of `mae-backbone transfer`. A value is the mean over its seeds."""
    record = json.loads((folder / 'results.json').read_text(encoding='utf-8'))
    rows = []
    for row in record['table']:
        cells = [cell for cell in record['cells'] if (cell['task'], cell['model']) == (row['task'], row['model'])]
        rows.append({'task': f'frozen features, {row["task"].replace("_", " ")}', 'metric': row['metric'],
                     'init': 'random' if row['model'] == 'random' else 'mae',
                     'value': round(row['summary']['mean'], 2),
                     'minutes': round(sum(cell['seconds'] for cell in cells) / 60, 4)})
    return rows


def minutes(work_dir: Path, step: str) -> float:
    """Returns the run time of a finished step, including all its attempts."""
    seconds = seconds_of_step(work_dir / step)
    assert seconds is not None, f'{step} is not finished'
    return seconds / 60


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Returns the result in words: how often the MAE is ahead, then a reason for each row in which it is not."""
    differences = [(mae, round(mae['value'] - random['value'], 2)) for mae, random in _pairs(rows)]
    ahead = [difference for _, difference in differences if difference > 0]
    if ahead:
        extent = f'{ahead[0]:.1f}' if len(ahead) == 1 else f'{min(ahead):.1f} to {max(ahead):.1f}'
        texts = [f'Pretraining helps in {len(ahead)} of {len(differences)} comparisons, by {extent} points. Each '
                 'training ran once, therefore small differences may be chance.']
    else:
        texts = [f'Pretraining helps in none of {len(differences)} comparisons.']
    for row, difference in differences:
        if difference <= 0:
            reason = _reason_of_neighbors(rows) if row['task'] == _KNN else _BY_CHANCE
            texts.append(f'{row["task"].capitalize()}, {row["metric"]}: {difference:+.1f} points. {reason}')
    return texts


def _reason_of_neighbors(rows: list[dict[str, Any]]) -> str:
    """Explains why k-NN on the MAE's features is worse, with the rows for whitened features."""
    values = {(row['task'], row['init']): row['value'] for row in rows}
    uses = {_WHITENED: 'With all directions scaled to about the same variance (whitened), nearest neighbors give',
            _LINEAR: 'A linear classifier on the same features gives'}
    texts = [f'{use} {values[task, "mae"]:.1f} for the MAE and {values[task, "random"]:.1f} for random weights.'
             for task, use in uses.items() if (task, 'mae') in values]
    ahead = [task for task in uses if values.get((task, 'mae'), 0) > values.get((task, 'random'), 0)]
    if _WHITENED in ahead:
        reason = ('Nearest neighbors weigh the directions of the features by their variance, and the classes differ in '
                  'directions of small variance.')
    elif ahead:
        reason = 'The classes are in the features of the MAE, but not in the distances between them.'
    else:
        reason = 'The features of this MAE tell the classes no better in other uses either.'
    return ' '.join([reason, *texts])


def draw_curves(work_dir: Path) -> None:
    """Writes curves.png: the first metric of each task over its iterations, from both starts."""
    figure = Figure(figsize=(4 * len(TASKS), 3.2), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(TASKS))
    for axis, task in zip(axes, TASKS, strict=True):
        key, metric = next(iter(task.metrics.items()))
        for init, style in (('mae', 'o-'), ('random', 's--')):
            steps, values = zip(*curve(work_dir / f'{task.name}_{init}', key), strict=True)
            axis.plot(steps, np.array(values) * task.scale, style, label=INITS[init])
        axis.set(title=f'{task.name}: {metric}', xlabel='iteration', ylabel='%', ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(work_dir / 'curves.png', dpi=110)


def draw_task(task: Task, work_dir: Path, *, images: int = 5) -> np.ndarray:
    """Draws validation images of a task: the image, its labels, and the predictions from both starts."""
    models: dict[str, tuple[Config, str | Path]] = {}
    for init, title in INITS.items():
        config = Config.fromfile(configs_root() / 'demo' / f'quickstart_{task.name}.py')
        models[title] = config, str(resume_path('auto', work_dir / f'{task.name}_{init}'))
    return draw_predictions(models, data_root=work_dir / 'scenes' / task.folder, images=images)


def _reconstructions(work_dir: Path) -> dict[str, str]:
    files = sorted((work_dir / 'mae' / 'reconstructions').glob('*.png'), key=lambda file: file.stat().st_mtime)
    if not files:
        return {}
    return {files[-1].relative_to(work_dir).as_posix():
            'Pretraining: the image, its visible patches, and the reconstruction.'}


def _cells(rows: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yields the rows of the table, with both starts of a metric in one row."""
    for mae, random in _pairs(rows):
        yield (mae['task'], mae['metric'], f'{mae["value"]:.1f}', f'{random["value"]:.1f}',
               f'{mae["value"] - random["value"]:+.1f}', f'{mae["minutes"]:.1f} / {random["minutes"]:.1f}')


def _pairs(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yields the rows of both starts of each metric, in the order of INITS."""
    yield from zip(rows[::2], rows[1::2], strict=True)


_HEAD = ('task', 'metric', *INITS.values(), 'difference', 'minutes')


def _markdown(title: str, texts: list[str], rows: list[dict[str, Any]], explanations: list[str],
              figures: dict[str, str]) -> str:
    lines = [f'# {title}', '', '\n\n'.join(texts), '', markdown_table(_HEAD, _cells(rows)), '']
    lines += [line for text in explanations for line in (text, '')]
    for name, caption in figures.items():
        lines += [caption, '', f'![{caption}]({name})', '']
    return '\n'.join(lines)


def _page(title: str, texts: list[str], rows: list[dict[str, Any]], explanations: list[str],
          figures: dict[str, str]) -> str:
    parts = [*map(paragraph, texts), html_table(_HEAD, _cells(rows)), *map(paragraph, explanations),
             link(f'{TRANSFER}/report.html', 'More about the frozen features: nearest neighbors, attention, principal '
                  'components')]
    return page(title, [*parts, *(figure(name, caption) for name, caption in figures.items())])
