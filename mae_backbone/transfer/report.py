"""Report of an experiment: results.json, a Markdown table, and a single HTML page."""
import dataclasses
import datetime
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.charts import curves, difference_chart, minutes_curves, time_curves
from mae_backbone.transfer.environment import format_environment
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.made_encoders import MadeEncoder, encoder_table, made_encoders
from mae_backbone.transfer.planning import cell_results
from mae_backbone.transfer.results import CellResult, Row, grouped, make_table, table_cells
from mae_backbone.transfer.time_to_quality import TimeToQuality, format_time, sentences, times_to_quality
from mae_backbone.transfer.verdict import LEVEL_MARGIN, SIGNIFICANCE, Verdict, sentence, statements, verdicts
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.html_report import data_uri, figure, heading, html_table, markdown_table, page, paragraph

_TABLE_NOTE = ('Percent: mean ± standard deviation over the seeds; the best is bold. A column "vs X" has the paired '
               'difference to X over the common seeds, its 95 % confidence interval (Student\'s t), and the p value of '
               'the paired t-test after Holm\'s correction for all comparisons of the table. A difference has no '
               'interval if there is one seed, or if it is the same for all seeds. "images" is the 95 % interval of a '
               'bootstrap over the validation images with fixed seeds. It shows how much the choice of these images '
               'matters, not how much the choice of the labels and the new weights matters. Claims are based on the '
               'seeds.')
_VERDICT_NOTE = ('An encoder beats another one, or loses to it, if the p value after Holm\'s correction is below '
                 f'{SIGNIFICANCE}. Two are level if the whole 95 % interval is within ±{LEVEL_MARGIN:g} point. All '
                 'other comparisons need more seeds.')
_TIME_NOTE = ('Minutes of training are CPU time, which other work on the machine hardly changes, or wall-clock time '
              'with a GPU. They do not include start, validations and pretraining. The time to quality is the time of '
              'the first validation that reaches the final metric of the reference with the same seed, divided by all '
              'minutes of the reference. Nothing is interpolated: with few validations the true time is shorter.')
_ENCODER_NOTE = ('Minutes are CPU time, or wall-clock time with a GPU. They include the minutes of the encoder that it '
                 'starts from. An encoder is pretrained once and used for all tasks and seeds of its data set.')
_CHART_NOTE = 'Bars are mean differences, lines are 95 % intervals; long intervals are cut at the edge.'


def write_report(experiment: Experiment, *, failed: dict[Path, str], figures: Sequence[Path], seconds: float,
                 command: str, only: dict[str, Sequence[Any] | None]) -> Path:
    """Writes results.json, table.md and report.html into the work directory, and returns the path of the page.

    Args:
        experiment: suite and encoders, with the finished cells in its folder.
        failed: error of each failed cell, by its folder.
        figures: folders of the finished figures.
        seconds: run time of this command in seconds.
        command: command line, for the report.
        only: arguments of `Suite.only`: selected tasks, data, labels and seeds; None for all.
    """
    results = cell_results(experiment)
    names = experiment.data_names
    named = [result._replace(data=names[result.data]) for result in results]
    rows = make_table(named, experiment.references, experiment.comparisons)
    compared = list(dict.fromkeys([*experiment.references, *(other for _, other in experiment.comparisons)]))
    times = times_to_quality(named, experiment.comparisons)
    made = [encoder._replace(data=tuple(names[name] for name in encoder.data)) for encoder in made_encoders(experiment)]
    judged = verdicts(rows, experiment.encoders)
    about = {'finished': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
             'seconds': round(seconds, 1), 'command': command, 'only': only}
    record = _record(experiment, results, rows, judged, times, made, failed, about)
    write_text(experiment.work_dir / 'results.json', json.dumps(record, indent=1))
    head, cells = table_cells(rows, compared, _reported(experiment))
    failures = _failures(experiment, failed)
    shortened = _shortened(experiment)
    lines = [f'# {experiment.suite.title}', '', *([shortened, ''] if shortened else []),
             *(f'- {sentence(verdict)}' for verdict in judged), '', *(f'- {text}' for text in sentences(times)), '',
             _TABLE_NOTE, '', markdown_table(head, cells), '',
             *([markdown_table(*encoder_table(made)), ''] if made else []),
             *(f'- failed: {line.splitlines()[0]}' for line in failures)]
    write_text(experiment.work_dir / 'table.md', '\n'.join(lines).rstrip() + '\n')
    body = _template().render(
        shortened=shortened, verdicts=[statements(verdict) for verdict in judged], verdict_note=_VERDICT_NOTE,
        summary=_summary(experiment, results), table=html_table(*grouped(head, _bold_best(cells, rows))),
        table_note=_TABLE_NOTE, charts=[difference_chart(verdict) for verdict in judged], chart_note=_CHART_NOTE,
        time_sentences=sentences(times), time_curves=time_curves(named, experiment.encoders),
        time_table=html_table(*_time_table(times)) if times else None, time_note=_TIME_NOTE,
        encoders=html_table(*encoder_table(made), wrap=True) if made else None, encoder_note=_ENCODER_NOTE,
        minutes_curves=minutes_curves(rows, experiment.encoders, made),
        failures=failures, curves=list(curves(rows, experiment.encoders)), figures=list(_figures(figures)),
        circumstances=list(_circumstances(results, about)), config=experiment.suite.text)
    write_text(experiment.work_dir / 'report.html', page(experiment.suite.title, [Markup(body)]))
    return experiment.work_dir / 'report.html'


def _template() -> Any:
    return Environment(loader=PackageLoader('mae_backbone.transfer', '.'), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True).get_template('report.html.j2')


def _summary(experiment: Experiment, results: Sequence[CellResult]) -> str:
    names = ', '.join(name for name in experiment.models if name not in experiment.references)
    against = f' against {", ".join(experiment.references)}' if experiment.references else ''
    folders = ', '.join(experiment.data_names.values())
    return (f'{names}{against} on {folders}: {len(results)} of {len(experiment.cells())} cells of the suite '
            f'{experiment.suite.name}.')


def _shortened(experiment: Experiment) -> str | None:
    """Returns a note if trainings were shortened, otherwise None."""
    if experiment.length == 1:
        return None
    return (f'The length of every training is {experiment.length:g} times the length in the suite. The results may '
            'differ from trainings of the full length.')


def _failures(experiment: Experiment, failed: dict[Path, str]) -> list[str]:
    """Returns a text for each distinct error, with the names of the cells that failed with it."""
    reasons: dict[str, list[str]] = {}
    for folder, text in failed.items():
        reasons.setdefault(text.strip(), []).append(_relative(folder, experiment))
    texts = []
    for reason, names in reasons.items():
        listed = ', '.join(names)
        texts.append(f'{listed if len(names) == 1 else f"{len(names)} cells ({listed})"}: {reason}')
    return texts


def _relative(folder: Path, experiment: Experiment) -> str:
    return folder.resolve().relative_to(experiment.work_dir.resolve()).as_posix()


def _time_table(times: Sequence[TimeToQuality]) -> tuple[Sequence[str], list[Sequence[str]]]:
    head = ['task', 'data', 'metric', 'labels', 'encoder', 'final metric of', 'reached']
    return grouped(head, [[found.task, found.data, found.metric, f'{found.labels * 100:.3g} %', found.model,
                           f'{found.reference}, {found.final:.1f} in {found.minutes:.1f} min', format_time(found)]
                          for found in times])


def _bold_best(cells: Sequence[Sequence[str]], rows: Sequence[Row]) -> list[list[str]]:
    """Makes the value of the best encoder of each comparison bold. Comparisons with one encoder are not changed."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.data, row.metric, f'{row.labels * 100:.3g} %'), []).append(row)
    best = {(*key, row.model) for key, group in groups.items() if len(group) > 1 for row in group
            if row.summary.mean == max(other.summary.mean for other in group)}
    return [[*line[:5], Markup('<b>{}</b>').format(line[5]) if tuple(line[:5]) in best else line[5], *line[6:]]
            for line in cells]


def _reported(experiment: Experiment) -> list[dict[str, Any]]:
    """Returns the published results for the tasks, data sets and architectures of this experiment."""
    if not experiment.suite.reported:
        return []
    archs = {architecture['name'] for architecture in experiment.architectures.values()}
    pairs = {(task.name, data) for task in experiment.suite.tasks for data in task.data}
    return [result | {'data': experiment.data_names[result['data']]} for result in experiment.suite.reported
            if (result['task'], result['data']) in pairs and result['arch'] in archs]


def _record(experiment: Experiment, results: Sequence[CellResult], rows: Sequence[Row], judged: Sequence[Verdict],
            times: Sequence[TimeToQuality], made: Sequence[MadeEncoder], failed: dict[Path, str],
            about: dict[str, Any]) -> object:
    """Returns the content of results.json. The environment of a cell is an index into 'environments'."""
    environments = _environments(results)
    return _without_nan({
        'suite': experiment.suite.name, 'config': experiment.suite.text, **about,
        'data_root': str(experiment.data_root), 'data': experiment.data_names,
        'verdicts': [{'model': verdict.model, 'reference': verdict.reference, 'text': sentence(verdict)}
                     for verdict in judged],
        'length': experiment.length,
        'encoders': [{**encoder._asdict(), 'checkpoint': encoder.checkpoint and str(encoder.checkpoint),
                      'entry': encoder.entry and dataclasses.asdict(encoder.entry)} for encoder in experiment.encoders],
        'made': [encoder._asdict() for encoder in made], 'time_to_quality': [found._asdict() for found in times],
        'environments': environments,
        'cells': [{name: value for name, value in result._asdict().items() if name != 'correct'}
                  | {'environment': result.environment and environments.index(result.environment)}
                  for result in results],
        'failed': {_relative(folder, experiment): text for folder, text in failed.items()},
        'table': [{**row._asdict(), 'summary': row.summary._asdict(),
                   'differences': {name: value._asdict() for name, value in row.differences.items()}} for row in rows],
        'reported': _reported(experiment)})


def _environments(results: Sequence[CellResult]) -> list[dict[str, Any]]:
    """Returns the distinct environments of the cells."""
    distinct: list[dict[str, Any]] = []
    for result in results:
        if result.environment and result.environment not in distinct:
            distinct.append(result.environment)
    return distinct


def _without_nan(value: object) -> object:
    """Replaces nan and infinity, which JSON does not have, with None."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figures(folders: Sequence[Path]) -> Iterator[Markup]:
    for folder in folders:
        result = experiment_dir.read_result(folder)
        if result is None:  # the folder was removed after the figure was drawn
            continue
        yield heading(experiment_dir.read_spec(folder)['title'])
        for name, caption in result['pictures'].items():
            yield figure(data_uri((folder / name).read_bytes(), 'image/png'), caption)
        for fault in result['faults']:
            yield paragraph(f'Not drawn: {fault}')


def _circumstances(results: Sequence[CellResult], about: dict[str, Any]) -> Iterator[str]:
    """Yields lines about this command and about the environments of all cells, which other commands may have run."""
    yield f'{about["finished"]}, {about["seconds"] / 60:.1f} minutes in this run: {about["command"]}'
    for environment in _environments(results):
        number = sum(result.environment == environment for result in results)
        yield f'{number} cells: {format_environment(environment)}'
    for note, number in Counter(note for result in results for note in result.notes).items():
        yield f'{number} cells: {note}'
    clocks = Counter(result.clock for result in results if result.curves)
    if len(clocks) > 1:
        yield (f'{clocks["cpu_minutes"]} trainings have minutes of CPU time, and {clocks["minutes"]}, on a GPU, of '
               'wall-clock time: their minutes cannot be compared')
    unknown = sum(result.environment is None for result in results)
    if unknown:
        yield f'{unknown} cells have no recorded environment: an earlier version ran them.'
