"""From the outcomes of cells to a table: means, deviations, differences and how sure they are."""
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Outcome(NamedTuple):
    """What a cell came to: percent by the name of the metric, the seconds that took, and where it ran, if noted."""

    task: str
    data: str
    labels: float
    seed: int
    model: str
    values: dict[str, float]
    seconds: float
    environment: dict | None = None


class Summary(NamedTuple):
    """Of one value for each seed: mean, standard deviation of the sample (nan for one seed), number of seeds."""

    mean: float
    std: float
    seeds: int


class Difference(NamedTuple):
    """Between two encoders, over the seeds that both have: its mean and deviation, and how likely it is by chance.

    `p` is that of a paired t-test on both sides, not corrected for the number of comparisons; nan where it says
    nothing: for fewer than two seeds, and where the difference is the same for all.
    """

    mean: float
    std: float
    seeds: int
    p: float


class Row(NamedTuple):
    """A line of the table: an encoder in one task; `differences` by the name of the encoder compared with."""

    task: str
    data: str
    metric: str
    labels: float
    model: str
    summary: Summary
    differences: dict[str, Difference]


def summarize(values: Iterable[float]) -> Summary:
    """Raises ValueError where there are none."""
    values = np.asarray(list(values), dtype=float)
    if not len(values):
        raise ValueError('no values to summarize')
    return Summary(float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan, len(values))


def compare(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Difference | None:
    """Values by seed -> their difference over the seeds that both have; None where they have none in common.

    The same seed draws the same labels for both, therefore the test is paired.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    mean, std, number = summarize(differences)
    # A spread of rounding errors alone would make anything certain.
    varies = number > 1 and std > 1e-9 * max(1.0, abs(mean))
    p = float(stats.ttest_1samp(differences, 0.0).pvalue) if varies else math.nan
    return Difference(mean, std, number, p)


def table(outcomes: Sequence[Outcome], references: Sequence[str]) -> list[Row]:
    """Outcomes -> rows, in the order in which tasks, data, shares of labels and encoders come first."""
    by_seed: dict[tuple, dict[int, float]] = {}
    for outcome in outcomes:
        for metric, value in outcome.values.items():
            key = (outcome.task, outcome.data, metric, outcome.labels)
            by_seed.setdefault(key, {}).setdefault(outcome.model, {})[outcome.seed] = value
    rows = []
    for key, models in by_seed.items():
        for model, values in models.items():
            differences = {} if model in references else {
                name: compare(values, models[name]) for name in references if name in models}
            rows.append(Row(*key, model, summarize(values.values()),
                            {name: found for name, found in differences.items() if found is not None}))
    return rows


def words_of(summary: Summary) -> str:
    """Such as '61.3 ± 0.4'; without a deviation where there is one seed."""
    return f'{summary.mean:.1f}' + ('' if math.isnan(summary.std) else f' ± {summary.std:.1f}')


def words_of_difference(difference: Difference | None) -> str:
    """Such as '+4.2 (p 0.03)'."""
    if difference is None:
        return '-'
    chance = '' if math.isnan(difference.p) else ' (p < 0.001)' if difference.p < 0.001 else f' (p {difference.p:.2g})'
    return f'{difference.mean:+.1f}{chance}'


def cells_of_table(rows: Sequence[Row], references: Sequence[str], reported: Sequence[dict] = ()
                   ) -> tuple[list[str], list[list[str]]]:
    """Head and cells of the table for people; published numbers stand below the rows of their task."""
    head = ['task', 'data', 'metric', 'labels', 'encoder', 'value', 'seeds', *(f'vs {name}' for name in references)]
    groups: dict[tuple, list[list[str]]] = {}
    for row in rows:
        groups.setdefault((row.task, row.data, row.metric), []).append([
            row.task, row.data, row.metric, f'{row.labels * 100:.3g} %', row.model,
            words_of(row.summary), str(row.summary.seeds),
            *('' if row.model in references else words_of_difference(row.differences.get(name))
              for name in references)])
    for number in reported:
        groups.setdefault((number['task'], number['data'], number['metric']), []).append([
            number['task'], number['data'], number['metric'], '100 %', f'reported: {number["name"]}',
            f'{number["value"]:.1f}', number['source'], *('' for _ in references)])
    return head, [line for lines in groups.values() for line in lines]


def grouped(head: Sequence[str], cells: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """The same for a narrow page: task, data, metric and labels become a headline of those alike, a row of one cell."""
    rows: list[Sequence[str]] = []
    last = None
    for line in cells:
        if line[:4] != last:
            last = line[:4]
            task, data, metric, labels = last
            rows.append([f'{task}, {data}, {metric}, {labels} of the labels'])
        rows.append(line[4:])
    return head[4:], rows
