"""The report of a experiment: results.json, a table in Markdown, and one page with everything in it."""
import datetime
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import Encoder, last_of_runs, runs_of
from mae_backbone.transfer.environment import format_environment
from mae_backbone.transfer.planning import Experiment, cell_results
from mae_backbone.transfer.results import CellResult, Row, grouped, make_table, table_cells
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.html_report import (
    data_uri,
    figure,
    gallery,
    heading,
    html_table,
    markdown_table,
    page,
    paragraph,
    preformatted,
)

_DIFFERENCES = ('Percent: mean ± standard deviation over the seeds. A column "vs X" is the difference to X on the same '
                'seeds, with the p of a paired t-test on both sides (scipy.stats), not corrected for the number of '
                'comparisons; without a p there is one seed, or the difference is the same for all.')

Group = tuple[str, str, str]  # task, data, metric


def write_report(experiment: Experiment, *, failed: dict[Path, str], figures: Sequence[Path], seconds: float,
                 command: str, only: dict[str, Sequence | None]) -> Path:
    """Writes results.json, table.md and report.html into the folder of the experiment; returns the latter.

    Args:
        experiment: with what is finished in its folder.
        failed: folders of the cells that failed, with their last lines.
        figures: folders of the finished figure cells.
        seconds: that this run took.
        command: that this run was started by.
        only: to which tasks, data, labels and seeds it was confined; None for all.
    """
    found = cell_results(experiment)
    rows = make_table(found, experiment.references)
    about = {'finished': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
             'seconds': round(seconds, 1), 'command': command, 'only': only}
    record = _record(experiment, found, rows, failed, about)
    write_text(experiment.work_dir / 'results.json', json.dumps(record, indent=1))
    head, cells = table_cells(rows, experiment.references, _reported(experiment))
    failures = [f'{folder.relative_to(experiment.work_dir)}: {text.strip()}' for folder, text in failed.items()]
    lines = [f'# {experiment.suite.title}', '', _DIFFERENCES, '', markdown_table(head, cells), '',
             *(f'- failed: {line.splitlines()[0]}' for line in failures)]
    write_text(experiment.work_dir / 'table.md', '\n'.join(lines).rstrip() + '\n')
    parts = [paragraph(_intro(experiment, found)), html_table(*grouped(head, cells)), paragraph(_DIFFERENCES)]
    if failures:
        parts += [heading('Failed'), *map(preformatted, failures)]
    parts += [*curves(rows, experiment.encoders), *_figures(figures), heading('How it was measured'),
              *_circumstances(found, about), preformatted(experiment.suite.text)]
    write_text(experiment.work_dir / 'report.html', page(experiment.suite.title, parts))
    return experiment.work_dir / 'report.html'


def _intro(experiment: Experiment, found: Sequence[CellResult]) -> str:
    judged = [encoder.name for encoder in experiment.encoders if not encoder.reference]
    against = f' against {", ".join(experiment.references)}' if experiment.references else ''
    return (f'{", ".join(judged)}{against}: {len(found)} of {len(experiment.cells())} cells of the suite '
            f'{experiment.suite.name}.')


def _reported(experiment: Experiment) -> list[dict]:
    """The published numbers of the tasks that are run and the architectures that are judged."""
    if not experiment.suite.reported:
        return []
    archs = {architecture.name for architecture in experiment.architectures.values()}
    places = {(task.name, data) for task in experiment.suite.tasks for data in task.data}
    return [number for number in experiment.suite.reported if (number['task'], number['data']) in places
            and number['arch'] in archs]


# ---- the record

def _record(experiment: Experiment, found: Sequence[CellResult], rows: Sequence[Row], failed: dict[Path, str],
            about: dict) -> dict:
    """All that is known, without what JSON has no word for; cells have the number of their environment."""
    environments = _environments(found)
    return _plain({
        'suite': experiment.suite.name, 'config': experiment.suite.text, **about,
        'data_root': str(experiment.data_root),
        'encoders': [{**encoder._asdict(), 'checkpoint': encoder.checkpoint and str(encoder.checkpoint)}
                     for encoder in experiment.encoders],
        'environments': environments,
        'cells': [{**outcome._asdict(), 'environment': outcome.environment and environments.index(outcome.environment)}
                  for outcome in found],
        'failed': {str(folder.relative_to(experiment.work_dir)): text for folder, text in failed.items()},
        'table': [{**row._asdict(), 'summary': row.summary._asdict(),
                   'differences': {name: value._asdict() for name, value in row.differences.items()}} for row in rows],
        'reported': _reported(experiment)})


def _environments(found: Sequence[CellResult]) -> list[dict]:
    """Where the cells ran, each once."""
    distinct = []
    for outcome in found:
        if outcome.environment and outcome.environment not in distinct:
            distinct.append(outcome.environment)
    return distinct


def _plain(value: object) -> object:
    """nan, which JSON does not know, becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- the page

def curves(rows: Sequence[Row], encoders: Sequence[Encoder]) -> Iterator[str]:
    """Against the share of the labels, and against the length of the pretraining, where there are several of them."""
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.data, row.metric), []).append(row)
    shown = [encoder.name for encoder in last_of_runs(encoders)]
    several = {key: group for key, group in groups.items() if len({row.labels for row in group}) > 1}
    if several:
        yield heading('Labels')
        yield _gallery({key: draw_labels(key, group, shown) for key, group in several.items()},
                       'Against the share of the labels; bars are one standard deviation.')
    references = [encoder.name for encoder in encoders if encoder.reference]
    for unit, words in (('iter', 'iterations'), ('epoch', 'epochs')):  # an axis has one of them
        runs = runs_of(encoders, unit)
        if any(len(run) > 1 for run in runs.values()):
            yield heading(f'Pretraining, {words}')
            yield _gallery({key: draw_pretraining(key, group, runs, references, words)
                            for key, group in groups.items()},
                           'Against the length of the pretraining, with all labels that a task had; a line for each '
                           'run, those across are what it is compared with.')


def _gallery(drawn: Mapping[Group, bytes], words: str) -> str:
    return gallery({', '.join(key): data_uri(picture, 'image/svg+xml') for key, picture in drawn.items()}, words)


def draw_labels(key: Group, group: Sequence[Row], names: Sequence[str]) -> bytes:
    """Rows of a task, data set and metric -> an SVG: value against the share of the labels."""
    axis = _axis(key)
    for name in names:
        _line(axis, {row.labels * 100: row for row in group if row.model == name}, name)
    shares = sorted({row.labels * 100 for row in group})
    axis.set(xscale='log', xlabel='labels, %')
    axis.set_xticks(shares, [f'{share:g}' for share in shares])
    axis.set_xticks([], minor=True)
    return _svg(axis)


def draw_pretraining(key: Group, group: Sequence[Row], runs: Mapping[str, Sequence[Encoder]],
                     references: Sequence[str], words: str) -> bytes:
    """The same against the length of the pretraining of each run, in `words`, with the largest share of the labels."""
    axis = _axis(key)
    group = [row for row in group if row.labels == max(other.labels for other in group)]
    for name, encoders in runs.items():
        steps = {encoder.name: encoder.step for encoder in encoders}
        _line(axis, {steps[row.model]: row for row in group if row.model in steps}, name)
    for number, row in enumerate((row for row in group if row.model in references), len(runs)):
        axis.axhline(row.summary.mean, linestyle='--', color=f'C{number}', label=row.model)
    axis.set(xlabel=words)
    return _svg(axis)


def _axis(key: Group) -> Axes:
    """In a figure of its own, as wide as a phone."""
    task, data, metric = key
    axis = Figure(figsize=(4, 3), layout='constrained').add_subplot()
    axis.set(title=f'{task}, {data}'.replace('$', r'\$'), ylabel=f'{metric}, %'.replace('$', r'\$'))
    axis.grid(alpha=0.3)
    return axis


def _line(axis: Axes, rows: Mapping[float, Row], name: str) -> None:
    """Means with their deviations by what stands below them."""
    points = sorted((place, *row.summary[:2]) for place, row in rows.items())
    if points:
        places, means, deviations = zip(*points, strict=True)
        axis.errorbar(places, means, np.nan_to_num(deviations), fmt='o-', capsize=3, label=name)


def _svg(axis: Axes) -> bytes:
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=8)
    buffer = io.BytesIO()
    axis.figure.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()


def _figures(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        found = experiment_dir.read_result(folder)
        yield heading(experiment_dir.read_spec(folder)['title'])
        for name, words in found['pictures'].items():
            yield figure(data_uri((folder / name).read_bytes(), 'image/png'), words)
        for fault in found['faults']:
            yield paragraph(f'Not drawn: {fault}')


def _circumstances(found: Sequence[CellResult], about: dict) -> Iterator[str]:
    """This run, then where the cells ran, which may have been in others."""
    yield paragraph(f'{about["finished"]}, {about["seconds"] / 60:.1f} minutes in this run: {about["command"]}')
    for environment in _environments(found):
        number = sum(outcome.environment == environment for outcome in found)
        yield paragraph(f'{number} cells: {format_environment(environment)}')
    unknown = sum(outcome.environment is None for outcome in found)
    if unknown:
        yield paragraph(f'{unknown} cells did not note where they ran: they are of an earlier version.')
