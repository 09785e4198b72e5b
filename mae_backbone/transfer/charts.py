"""Charts of a report: curves over labels and length of pretraining, and bars of differences."""
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mae_backbone.transfer.encoders import RANDOM, Encoder, last_of_runs, runs_of
from mae_backbone.transfer.made_encoders import MadeEncoder, lines_over_time
from mae_backbone.transfer.results import CellResult, Row
from mae_backbone.transfer.time_to_quality import Points, curves_of, mean_curve
from mae_backbone.transfer.verdict import Verdict, format_effect
from mae_backbone.utils.fonts import plot_label, set_fonts
from mae_backbone.utils.html_report import data_uri, gallery, heading

Group = tuple[str, str, str]  # task, data, metric


def difference_chart(verdict: Verdict) -> dict[str, Any]:
    """Returns the values for the bar chart of a verdict in `report.html.j2`.

    The chart has one bar for each comparison. Positions and widths are in percent of the width of the chart.
    """
    values = [0.0]
    for _, difference, _ in verdict.comparisons:
        # The interval of two seeds can be ten times as long as its bar: clip it to keep the other bars readable.
        limit = max(1.0, 3 * abs(difference.mean))
        edges = (difference.mean, difference.low, difference.high)
        values += [min(limit, max(-limit, value)) for value in edges if not math.isnan(value)]
    low, high = min(values), max(values)
    margin = 0.05 * max(high - low, 1e-6)
    low, high = low - margin, high + margin

    def position(value: float) -> float:
        return round(100 * (min(high, max(low, value)) - low) / (high - low), 2)
    bars = []
    for name, difference, outcome in verdict.comparisons:
        ends = sorted((position(0), position(difference.mean)))
        bars.append({
            'name': name, 'text': format_effect(difference), 'outcome': outcome, 'start': ends[0],
            'width': round(ends[1] - ends[0], 2),
            'low': None if math.isnan(difference.low) else position(difference.low),
            'high': None if math.isnan(difference.high) else position(difference.high)})
    reference = 'random weights' if verdict.reference == RANDOM else verdict.reference
    return {'title': f'{verdict.model} minus {reference}', 'bars': bars, 'zero': position(0),
            'low': f'{low:.1f}', 'high': f'{high:.1f}'}


def curves(rows: Sequence[Row], encoders: Sequence[Encoder]) -> Iterator[Markup]:
    """Yields headings and charts for the report.

    The charts show results over the fraction of the labels, if there are several fractions, and over the length of the
    pretraining, if a run has several checkpoints.
    """
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.task, row.data, row.metric), []).append(row)
    names = list(dict.fromkeys(encoder.name for encoder in last_of_runs(encoders)))
    several = {key: group for key, group in groups.items() if len({row.labels for row in group}) > 1}
    if several:
        yield heading('Labels')
        yield _gallery({key: draw_labels(key, group, names) for key, group in several.items()},
                       'Value over the fraction of the labels. Error bars are one standard deviation.')
    references = [encoder.name for encoder in encoders if encoder.reference]
    for unit, unit_name in (('iter', 'iterations'), ('epoch', 'epochs')):  # one unit per axis
        runs = runs_of(encoders, unit)
        if any(len(run) > 1 for run in runs.values()):
            yield heading(f'Pretraining, {unit_name}')
            yield _gallery({key: draw_pretraining(key, group, runs, references, unit_name)
                            for key, group in groups.items()},
                           'Value over the length of the pretraining, with the largest fraction of the labels. One '
                           'line per run; dashed lines are the references.')


def time_curves(results: Sequence[CellResult], encoders: Sequence[Encoder]) -> Markup | None:
    """Returns charts of each metric over the minutes of training, for the largest fraction of the labels.

    Returns None if no training has several validations.
    """
    names = list(dict.fromkeys(encoder.name for encoder in last_of_runs(encoders)))
    largest: dict[Group, tuple[float, dict[str, dict[int, Points]]]] = {}
    for (task, data, metric, labels), models in curves_of(results).items():
        if any(len(points) > 1 for by_seed in models.values() for points in by_seed.values()):
            before = largest.get((task, data, metric))
            if before is None or before[0] < labels:
                largest[task, data, metric] = labels, models
    if not largest:
        return None
    known = {encoder.name for encoder in encoders}
    charts = {key: draw_time(key, models, [*names, *(name for name in models if name not in known)])
              for key, (_, models) in largest.items()}
    return _gallery(charts, 'Metric over the minutes of training, with the largest fraction of the labels: mean over '
                            'the seeds, and one standard deviation. Pretraining is not counted.')


def minutes_curves(rows: Sequence[Row], encoders: Sequence[Encoder], made: Sequence[MadeEncoder]) -> Markup | None:
    """Returns charts of the metrics over the minutes of pretraining of the encoders that the suite trains.

    Returns None if no curve has several points.
    """
    references = [encoder.name for encoder in encoders if encoder.reference]
    charts = {}
    for (task, data, metric), labels, lines in lines_over_time(rows, made):
        axis = _axis((task, data, metric))
        for name, points in lines.items():
            _line(axis, points, name)
        group = [row for row in rows if (row.task, row.data, row.metric, row.labels) == (task, data, metric, labels)]
        for number, row in enumerate((row for row in group if row.model in references), len(lines)):
            axis.axhline(row.summary.mean, linestyle='--', color=f'C{number}', label=row.model)
        axis.set(xlabel='minutes of pretraining')
        charts[task, data, f'{metric}, {labels * 100:.3g} % of the labels'] = _svg(axis)
    return _gallery(charts, 'Value over the minutes of pretraining. Dashed lines are the references.'
                    ) if charts else None


def draw_time(key: Group, models: Mapping[str, Mapping[int, Points]], names: Sequence[str]) -> bytes:
    """Draws a metric over the minutes of training. Returns an SVG file.

    Args:
        key: task, data set and metric.
        models: curves by encoder and seed.
        names: names of the encoders and peers to draw.
    """
    axis = _axis(key)
    for name in names:
        if models.get(name):
            minutes, means, deviations = mean_curve(models[name])
            axis.errorbar(minutes, means, deviations, fmt='o-', capsize=3, label=name)
    axis.set(xlabel='minutes of training')
    return _svg(axis)


def draw_labels(key: Group, group: Sequence[Row], names: Sequence[str]) -> bytes:
    """Draws the rows of a task, data set and metric over the fraction of the labels. Returns an SVG file."""
    axis = _axis(key)
    for name in names:
        _line(axis, {row.labels * 100: row for row in group if row.model == name}, name)
    fractions = sorted({row.labels * 100 for row in group})
    axis.set(xscale='log', xlabel='labels, %')
    axis.set_xticks(fractions, [f'{fraction:g}' for fraction in fractions])
    axis.set_xticks([], minor=True)
    return _svg(axis)


def draw_pretraining(key: Group, group: Sequence[Row], runs: Mapping[str, Sequence[Encoder]],
                     references: Sequence[str], unit: str) -> bytes:
    """Draws the rows with the largest fraction of the labels over the length of pretraining. Returns an SVG file."""
    axis = _axis(key)
    group = [row for row in group if row.labels == max(other.labels for other in group)]
    for name, encoders in runs.items():
        steps = {encoder.name: encoder.step for encoder in encoders if encoder.step is not None}
        _line(axis, {steps[row.model]: row for row in group if row.model in steps}, name)
    for number, row in enumerate((row for row in group if row.model in references), len(runs)):
        axis.axhline(row.summary.mean, linestyle='--', color=f'C{number}', label=row.model)
    axis.set(xlabel=unit)
    return _svg(axis)


def _gallery(charts: Mapping[Group, bytes], caption: str) -> Markup:
    return gallery({', '.join(key): data_uri(svg, 'image/svg+xml') for key, svg in charts.items()}, caption)


def _axis(key: Group) -> Axes:
    """Returns the axes of a new figure that is narrow enough for the screen of a phone."""
    task, data, metric = key
    axis = Figure(figsize=(4, 3), layout='constrained').add_subplot()
    axis.set(title=plot_label(f'{task}, {data}', longest=50), ylabel=plot_label(f'{metric}, %'))
    axis.grid(alpha=0.3)
    return axis


def _line(axis: Axes, rows: Mapping[float, Row], name: str) -> None:
    """Draws a curve of the means of `rows` over their positions, with standard deviations as error bars."""
    points = sorted((position, row.summary.mean, row.summary.std) for position, row in rows.items())
    if points:
        positions, means, deviations = zip(*points, strict=True)
        axis.errorbar(positions, means, np.nan_to_num(deviations), fmt='o-', capsize=3, label=name)


def _svg(axis: Axes) -> bytes:
    if axis.get_legend_handles_labels()[1]:
        axis.legend(fontsize=8)
    figure = axis.get_figure(root=True)
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    set_fonts(figure)
    figure.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()
