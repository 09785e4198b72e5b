"""The report of a benchmark: results.json, a table in Markdown, and one page with everything in it."""
import datetime
import io
import json
import math
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mae_backbone.benchmark.machine import device_name
from mae_backbone.page import (
    data_uri,
    figure,
    heading,
    html_table,
    markdown_table,
    page,
    paragraph,
    preformatted,
)
from mae_backbone.processors import available_processors
from mae_backbone.transfer import claims
from mae_backbone.transfer.encoders import Encoder
from mae_backbone.transfer.planning import Benchmark, outcomes
from mae_backbone.transfer.results import Outcome, Row, cells_of_table, grouped, table
from mae_backbone.whole_file import write_text

_PACKAGES = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
             'onedl-mmsegmentation', 'numpy', 'scipy', 'scikit-learn')
_DIFFERENCES = ('Percent: mean ± standard deviation over the seeds. A column "vs X" is the difference to X on the same '
                'seeds, with the p of a paired t-test on both sides (scipy.stats), not corrected for the number of '
                'comparisons; without a p there is one seed, or the difference is the same for all.')


def write_report(benchmark: Benchmark, *, failed: dict[Path, str], pictures: Sequence[Path], seconds: float) -> Path:
    """Writes results.json, table.md and report.html into the folder of the benchmark; returns the latter.

    Args:
        benchmark: with what is finished in its folder.
        failed: folders of the cells that failed, with their last lines.
        pictures: folders of the finished picture cells.
        seconds: that this run took.
    """
    found, about = outcomes(benchmark), environment(benchmark.root)
    rows = table(found, benchmark.references)
    record = _record(benchmark, found, rows, failed, about | {'seconds': round(seconds, 1)})
    write_text(benchmark.out / 'results.json', json.dumps(record, indent=1))
    head, cells = cells_of_table(rows, benchmark.references, _reported(benchmark))
    failures = [f'{folder.relative_to(benchmark.out)}: {text.strip()}' for folder, text in failed.items()]
    lines = [f'# {benchmark.suite.title}', '', _DIFFERENCES, '', markdown_table(head, cells), '',
             *(f'- failed: {line.splitlines()[0]}' for line in failures)]
    write_text(benchmark.out / 'table.md', '\n'.join(lines).rstrip() + '\n')
    parts = [paragraph(_intro(benchmark, found)), html_table(*grouped(head, cells)), paragraph(_DIFFERENCES)]
    if failures:
        parts += [heading('Failed'), *map(preformatted, failures)]
    parts += [*_curves(rows, benchmark.encoders), *_pictures(pictures), heading('How it was measured'),
              *_circumstances(benchmark, about, seconds)]
    write_text(benchmark.out / 'report.html', page(benchmark.suite.title, parts))
    return benchmark.out / 'report.html'


def _intro(benchmark: Benchmark, found: Sequence[Outcome]) -> str:
    judged = [encoder.name for encoder in benchmark.encoders if not encoder.reference]
    against = f' against {", ".join(benchmark.references)}' if benchmark.references else ''
    return (f'{", ".join(judged)}{against}: {len(found)} of {len(benchmark.cells())} cells of the suite '
            f'{benchmark.suite.name}.')


def _reported(benchmark: Benchmark) -> list[dict]:
    """The published numbers of the tasks that are run and the architectures that are judged."""
    if not benchmark.suite.reported:
        return []
    archs = {architecture.name for architecture in benchmark.architectures.values()}
    places = {(task.name, data) for task in benchmark.suite.tasks for data in task.data}
    return [number for number in benchmark.suite.reported if (number['task'], number['data']) in places
            and number['arch'] in archs]


# ---- the record

def _record(benchmark: Benchmark, found: Sequence[Outcome], rows: Sequence[Row], failed: dict[Path, str],
            about: dict) -> dict:
    """All that is known, without what JSON has no word for."""
    return _plain({
        'suite': benchmark.suite.name, 'config': benchmark.suite.text, **about,
        'data_root': str(benchmark.data_root),
        'encoders': [{**encoder._asdict(), 'checkpoint': encoder.checkpoint and str(encoder.checkpoint)}
                     for encoder in benchmark.encoders],
        'cells': [outcome._asdict() for outcome in found],
        'failed': {str(folder.relative_to(benchmark.out)): text for folder, text in failed.items()},
        'table': [{**row._asdict(), 'summary': row.summary._asdict(),
                   'differences': {name: value._asdict() for name, value in row.differences.items()}} for row in rows],
        'reported': _reported(benchmark)})


def environment(root: Path) -> dict:
    """When, with which code and versions, on what."""
    return {'finished': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            'commit': commit(root), 'versions': dict(_versions()), 'hardware': hardware()}


def hardware() -> dict[str, str]:
    """Processor, GPUs and memory."""
    found = {'processor': f'{available_processors()} x {device_name(torch.device("cpu"))}',
             'memory': f'{psutil.virtual_memory().total / 2**30:.0f} GB'}
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return found | ({'GPUs': ', '.join(gpus)} if gpus else {})


def commit(root: Path) -> str | None:
    """The commit that the code in `root` is at, with '+' where it was changed since; None outside of a git clone."""
    try:
        head, changes = (subprocess.run(['git', '-C', str(root), *words], capture_output=True, text=True, check=True)
                         .stdout.strip() for words in (('rev-parse', 'HEAD'), ('status', '--porcelain', '-uno')))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + '+' * bool(changes)


def _versions() -> Iterator[tuple[str, str]]:
    for name in ('mae_backbone', *_PACKAGES):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _plain(value: object) -> object:
    """nan, which JSON does not know, becomes null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- the page

def _curves(rows: Sequence[Row], encoders: Sequence[Encoder]) -> list[str]:
    """Against the share of the labels, and against the length of the pretraining, where there are several of them."""
    keys = list(dict.fromkeys((row.task, row.data, row.metric) for row in rows))
    groups = {key: [row for row in rows if (row.task, row.data, row.metric) == key] for key in keys}
    shown = [encoder for encoder in encoders if encoder.reference or encoder == _last(encoders)]
    several = {key: group for key, group in groups.items() if len({row.labels for row in group}) > 1}
    parts = []
    if several:
        picture = draw_labels(several, [encoder.name for encoder in shown])
        parts += [heading('Labels'), figure(data_uri(picture, 'image/svg+xml'),
                                            'Against the share of the labels; bars are one standard deviation.')]
    pretrained = [encoder for encoder in encoders if not encoder.reference and encoder.step is not None]
    if len({encoder.step for encoder in pretrained}) > 1:
        picture = draw_pretraining(groups, pretrained, [encoder.name for encoder in encoders if encoder.reference])
        parts += [heading('Pretraining'), figure(data_uri(picture, 'image/svg+xml'),
                                                 'Against the length of the pretraining, with all labels that a task '
                                                 'had; lines across are what it is compared with.')]
    return parts


def _last(encoders: Sequence[Encoder]) -> Encoder:
    return [encoder for encoder in encoders if not encoder.reference][-1]


def draw_labels(groups: dict[tuple, list[Row]], names: Sequence[str]) -> bytes:
    """Rows by (task, data, metric) -> an SVG with an axis for each: value against the share of the labels."""
    drawn, axes = _axes(groups)
    for axis, group in zip(axes, groups.values(), strict=True):
        for name in names:
            points = sorted((row.labels * 100, *row.summary[:2]) for row in group if row.model == name)
            if points:
                shares, means, deviations = zip(*points, strict=True)
                axis.errorbar(shares, means, np.nan_to_num(deviations), fmt='o-', capsize=3, label=name)
        shares = sorted({row.labels * 100 for row in group})
        axis.set(xscale='log', xlabel='labels, %')
        axis.set_xticks(shares, [f'{share:g}' for share in shares])
        axis.set_xticks([], minor=True)
        axis.legend(fontsize=8)
    return _svg(drawn)


def draw_pretraining(groups: dict[tuple, list[Row]], encoders: Sequence[Encoder], references: Sequence[str]) -> bytes:
    """The same against the length of the pretraining of `encoders`, with the largest share of the labels."""
    steps = {encoder.name: encoder.step for encoder in encoders}
    drawn, axes = _axes(groups)
    for axis, group in zip(axes, groups.values(), strict=True):
        group = [row for row in group if row.labels == max(other.labels for other in group)]
        points = sorted((steps[row.model], *row.summary[:2]) for row in group if row.model in steps)
        if points:
            lengths, means, deviations = zip(*points, strict=True)
            axis.errorbar(lengths, means, np.nan_to_num(deviations), fmt='o-', capsize=3)
        for number, row in enumerate(row for row in group if row.model in references):
            axis.axhline(row.summary.mean, linestyle='--', color=f'C{number + 1}', label=row.model)
        axis.set(xlabel='iterations' if encoders[0].unit == 'iter' else 'epochs')
        if references:
            axis.legend(fontsize=8)
    return _svg(drawn)


def _axes(groups: dict[tuple, list[Row]]) -> tuple[Figure, list[Axes]]:
    """A figure with an axis for each group of rows, two in a line."""
    columns = min(2, len(groups))
    lines = math.ceil(len(groups) / columns)
    drawn, axes = Figure(figsize=(4 * columns, 3 * lines), layout='constrained'), []
    for number, (task, data, metric) in enumerate(groups, 1):
        axis = drawn.add_subplot(lines, columns, number)
        axis.set(title=f'{task}, {data}'.replace('$', r'\$'), ylabel=f'{metric}, %'.replace('$', r'\$'))
        axis.grid(alpha=0.3)
        axes.append(axis)
    return drawn, axes


def _svg(drawn: Figure) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()


def _pictures(folders: Sequence[Path]) -> Iterator[str]:
    for folder in folders:
        found = claims.result_of(folder)
        yield heading(claims.read_spec(folder)['title'])
        for name, words in found['pictures'].items():
            yield figure(data_uri((folder / name).read_bytes(), 'image/png'), words)
        for fault in found['faults']:
            yield paragraph(f'Not drawn: {fault}')


def _circumstances(benchmark: Benchmark, about: dict, seconds: float) -> list[str]:
    machine = '; '.join(f'{key}: {value}' for key, value in about['hardware'].items())
    versions = ', '.join(f'{name} {number}' for name, number in about['versions'].items())
    return [paragraph(f'{about["finished"]}, commit {about["commit"] or "unknown"}, {seconds / 60:.1f} minutes in this '
                      f'run. {machine}. {versions}.'), preformatted(benchmark.suite.text)]
