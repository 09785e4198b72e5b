"""Statistics over cells: means, standard deviations, and paired differences with intervals and p values."""
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mae_backbone.transfer.image_results import ImageInterval, bootstrap, from_text

CONFIDENCE = 0.95
_Group = tuple[str, str, str, float]  # task, data, metric, labels


class CellResult(NamedTuple):
    """Result of a cell.

    Attributes:
        task, data, labels, seed, model: as in `Cell`. For a peer, `task` is the task in whose rows it appears.
        values: metrics in percent by name.
        seconds: run time.
        environment: versions and hardware; None if an earlier version of this package did not record them.
        notes: notes about settings that differ from the suite.
        minutes: minutes of training without start and validations: CPU time, or wall-clock time with a GPU.
        curves: [iteration, minutes, percent] for each validation of a training, by name of the metric.
        clock: 'cpu_minutes' or 'minutes' (wall-clock time), the unit of `minutes` and of the curves.
        correct: for classification, which validation images were classified correctly (`image_results.to_text`).
    """

    task: str
    data: str
    labels: float
    seed: int
    model: str
    values: dict[str, float]
    seconds: float
    environment: dict[str, Any] | None = None
    notes: Sequence[str] = ()
    minutes: float | None = None
    curves: Mapping[str, Sequence[Sequence[float]]] = {}
    correct: Mapping[str, Any] | None = None
    clock: str = 'cpu_minutes'


class Summary(NamedTuple):
    """Statistics of one value per seed: mean, sample standard deviation (nan for one seed), number of seeds."""

    mean: float
    std: float
    seeds: int


class Difference(NamedTuple):
    """Paired difference between two encoders, over their common seeds.

    Attributes:
        mean: mean difference.
        std: sample standard deviation of the differences (nan for one seed).
        seeds: number of seeds.
        low, high: 95 % confidence interval of the mean (Student's t).
        p: p value of the two-sided paired t-test.
        p_holm: `p` after Holm's correction for all comparisons of the table.
        images: for classification, 95 % interval of a bootstrap over the validation images (`image_results.bootstrap`).

    low, high, p and p_holm are nan if there are fewer than two seeds, or if the difference is the same for all seeds.
    """

    mean: float
    std: float
    seeds: int
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    p_holm: float = math.nan
    images: ImageInterval | None = None


class Row(NamedTuple):
    """Row of the table: the results of an encoder in a task, with its difference to each reference by name."""

    task: str
    data: str
    metric: str
    labels: float
    model: str
    summary: Summary
    differences: dict[str, Difference]


def summarize(values: Iterable[float]) -> Summary:
    """Returns the statistics of one value per seed.

    Raises:
        ValueError: there are no values.
    """
    array = np.asarray(list(values), dtype=float)
    if not len(array):
        raise ValueError('no values to summarize')
    return Summary(float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else math.nan, len(array))


def compare(encoder: Mapping[int, float], reference: Mapping[int, float]) -> Difference | None:
    """Compares two encoders by their values for each seed. Returns None if they have no seed in common.

    The test is paired, because both encoders are trained on the same labels for the same seed.
    """
    seeds = sorted(encoder.keys() & reference.keys())
    if not seeds:
        return None
    differences = np.array([encoder[seed] - reference[seed] for seed in seeds])
    mean, std, number = summarize(differences)
    # A standard deviation this small is a rounding error, which would make any difference significant.
    if number < 2 or not std > 1e-9 * max(1.0, abs(mean)):
        return Difference(mean, std, number)
    test = stats.ttest_1samp(differences, 0.0)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, number - 1)) * std / math.sqrt(number)
    return Difference(mean, std, number, mean - margin, mean + margin, float(test.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p values for multiple comparisons (Holm 1979). nan values stay nan and are not counted."""
    order = sorted((index for index, p in enumerate(p_values) if not math.isnan(p)), key=lambda index: p_values[index])
    adjusted, largest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def make_table(results: Sequence[CellResult], references: Sequence[str],
               pairs: Sequence[tuple[str, str]] | None = None) -> list[Row]:
    """Returns the rows of the table, in the order in which tasks, data, fractions of labels and encoders first appear.

    Args:
        results: finished cells.
        references: names of the encoders that the others are compared with.
        pairs: pairs of names, an encoder and the one that it is compared with; None for all encoders with all
            references.
    """
    values: dict[_Group, dict[str, dict[int, float]]] = {}
    correct: dict[_Group, dict[str, dict[int, np.ndarray]]] = {}
    for result in results:
        for metric, value in result.values.items():
            key = result.task, result.data, metric, result.labels
            values.setdefault(key, {}).setdefault(result.model, {})[result.seed] = value
            right = from_text(result.correct) if result.correct else np.empty(0)
            if len(right) and math.isclose(100 * float(np.mean(right)), value, abs_tol=1e-6):
                correct.setdefault(key, {}).setdefault(result.model, {})[result.seed] = right
    rows = []
    for key, models in values.items():
        for model, by_seed in models.items():
            others = [other for name, other in pairs if name == model] if pairs is not None else \
                [] if model in references else references
            compared = {name: compare(by_seed, models[name]) for name in others if name in models}
            images = correct.get(key, {})
            differences = {name: difference._replace(images=_over_images(
                               images.get(model, {}), images.get(name, {}), difference.seeds))
                           for name, difference in compared.items() if difference is not None}
            rows.append(Row(*key, model, summarize(by_seed.values()), differences))
    adjusted = iter(holm([difference.p for row in rows for difference in row.differences.values()]))
    return [row._replace(differences={name: difference._replace(p_holm=next(adjusted))
                                      for name, difference in row.differences.items()}) for row in rows]


def _over_images(encoder: Mapping[int, np.ndarray], reference: Mapping[int, np.ndarray], number: int
                 ) -> ImageInterval | None:
    """Returns the bootstrap interval over images, or None if results of images are missing for one of the seeds.

    Args:
        encoder, reference: correct predictions (N,) bool by seed.
        number: number of common seeds of the two encoders.
    """
    seeds = sorted(encoder.keys() & reference.keys())
    if len(seeds) < number:
        return None
    return bootstrap([encoder[seed] for seed in seeds], [reference[seed] for seed in seeds])


def format_summary(summary: Summary) -> str:
    """Formats a mean and its standard deviation, such as '61.3 ± 0.4'."""
    return f'{summary.mean:.1f}' + ('' if math.isnan(summary.std) else f' ± {summary.std:.1f}')


def format_difference(difference: Difference | None) -> str:
    """Formats a difference with its intervals and p value, such as '+4.2 (2.1 to 6.3), p 0.03; images 3.0 to 5.4'."""
    if difference is None:
        return '-'
    images = f'; images {difference.images.low:.1f} to {difference.images.high:.1f}' if difference.images else ''
    if math.isnan(difference.p):
        return f'{difference.mean:+.1f}{images}'
    p = difference.p if math.isnan(difference.p_holm) else difference.p_holm
    return (f'{difference.mean:+.1f} ({format_interval(difference)}), '
            + ('p < 0.001' if p < 0.001 else f'p {p:.2g}') + images)


def format_interval(difference: Difference) -> str:
    """Formats a confidence interval, such as '2.1 to 6.3'."""
    return f'{difference.low:.1f} to {difference.high:.1f}'


def table_cells(rows: Sequence[Row], references: Sequence[str], reported: Sequence[dict[str, Any]] = ()
                ) -> tuple[list[str], list[list[str]]]:
    """Returns the column titles and the formatted rows of the table.

    Args:
        rows: results.
        references: encoders with a column 'vs NAME'.
        reported: published results. They follow our rows of the same task, data set and metric.
    """
    head = ['task', 'data', 'metric', 'labels', 'encoder', 'value', 'seeds', *(f'vs {name}' for name in references)]
    groups: dict[tuple[str, str, str], list[list[str]]] = {}
    for row in rows:
        groups.setdefault((row.task, row.data, row.metric), []).append([
            row.task, row.data, row.metric, f'{row.labels * 100:.3g} %', row.model,
            format_summary(row.summary), str(row.summary.seeds),
            *('' if row.model in references else format_difference(row.differences.get(name)) for name in references)])
    for result in reported:
        groups.setdefault((result['task'], result['data'], result['metric']), []).append([
            result['task'], result['data'], result['metric'], '100 %', f'reported: {result["name"]}',
            f'{result["value"]:.1f}', result['source'], *('' for _ in references)])
    return head, [cells for group in groups.values() for cells in group]


def grouped(head: Sequence[str], cells: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Makes a table narrower: moves the columns task, data, metric and labels into headlines.

    A headline is a row with a single cell, before the rows with the same values of these columns.

    Returns:
        Column titles and rows without the first four columns.
    """
    rows: list[Sequence[str]] = []
    last: Sequence[str] = ()
    for line in cells:
        if line[:4] != last:
            last = line[:4]
            task, data, metric, labels = last
            rows.append([f'{task}, {data}, {metric}, {labels} of the labels'])
        rows.append(line[4:])
    return head[4:], rows
