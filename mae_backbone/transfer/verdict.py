"""Verdicts: sentences that say in which comparisons an encoder is better than, worse than or level with another."""
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mae_backbone.transfer.encoders import RANDOM, Encoder, last_of_runs
from mae_backbone.transfer.results import Difference, Row, format_interval

SIGNIFICANCE = 0.05  # a difference is significant if its p value after Holm's correction is below this
LEVEL_MARGIN = 1.0  # in points: two encoders are level if the whole 95 % interval is within ± this margin
NUM_EXAMPLES = 4  # largest number of comparisons that a sentence lists

Outcome = Literal['better', 'worse', 'level', 'undecided']


class Comparison(NamedTuple):
    """Difference between an encoder and a reference in a row of the table, with a name that is unique in a verdict."""

    name: str
    difference: Difference
    outcome: Outcome


class Verdict(NamedTuple):
    """All comparisons of an encoder with a reference."""

    model: str
    reference: str
    comparisons: list[Comparison]

    def named(self, outcome: Outcome) -> list[Comparison]:
        """Returns the comparisons with this result."""
        return [comparison for comparison in self.comparisons if comparison.outcome == outcome]


def outcome_of(difference: Difference) -> Outcome:
    """Returns the result of a comparison. `difference.p_holm` must be set (`make_table` does this)."""
    if math.isnan(difference.p_holm):
        return 'undecided'
    if difference.p_holm < SIGNIFICANCE:
        return 'better' if difference.mean > 0 else 'worse'
    return 'level' if -LEVEL_MARGIN < difference.low and difference.high < LEVEL_MARGIN else 'undecided'


def verdicts(rows: Sequence[Row], encoders: Sequence[Encoder]) -> list[Verdict]:
    """Returns a verdict for each pair of the last encoder of a run and a reference that the table compares it with."""
    found = []
    for name in dict.fromkeys(encoder.name for encoder in last_of_runs(encoders)):
        for reference in dict.fromkeys(other for row in rows if row.model == name for other in row.differences):
            compared = [row for row in rows if row.model == name and reference in row.differences]
            differences = [row.differences[reference] for row in compared]
            comparisons = [Comparison(named, difference, outcome_of(difference))
                           for named, difference in zip(_names(compared), differences, strict=True)]
            found.append(Verdict(name, reference, comparisons))
    return found


def statements(verdict: Verdict) -> list[str]:
    """Formats a verdict as sentences: in how many comparisons the encoder is better, then all other results."""
    reference = 'random weights' if verdict.reference == RANDOM else verdict.reference
    number = len(verdict.comparisons)
    better, worse, level, undecided = (verdict.named(outcome) for outcome in ('better', 'worse', 'level', 'undecided'))
    if len(undecided) == number:
        return [f'There are not enough seeds to tell whether {verdict.model} is better than {reference}: '
                f'{_examples(undecided)}.']
    if better:
        every = {1: 'the only comparison', 2: 'both comparisons'}.get(number, f'all {number} comparisons')
        count = every if len(better) == number else f'{len(better)} of {number} comparisons'
        texts = [f'{verdict.model} beats {reference} in {count}: {_examples(better)}.']
    else:
        texts = [f'{verdict.model} beats {reference} in none of {number} comparisons.']
    if worse:
        texts.append(f'It loses in {len(worse)}: {_examples(worse)}.')
    if level:
        texts.append(f'Level within {LEVEL_MARGIN:g} point in {len(level)}: {_examples(level)}.')
    if undecided:
        texts.append(f'Not enough seeds to tell in {len(undecided)}: {_examples(undecided)}.')
    return texts


def sentence(verdict: Verdict) -> str:
    """Formats a verdict as one text."""
    return ' '.join(statements(verdict))


def format_effect(difference: Difference) -> str:
    """Formats a difference in points with its interval, or the reason why it has none."""
    if not math.isnan(difference.low):
        text = f'{difference.mean:+.1f}, 95 % interval {format_interval(difference)}'
        excludes_zero = difference.low > 0 or difference.high < 0
        corrected = excludes_zero and difference.p_holm >= SIGNIFICANCE
        return text + (f', p {difference.p_holm:.2g} after correction' if corrected else '')
    reason = 'one seed' if difference.seeds < 2 else f'the same for {difference.seeds} seeds'
    return f'{difference.mean:+.1f}, {reason}'


def _examples(comparisons: Sequence[Comparison]) -> str:
    shown = [f'{comparison.name}: {format_effect(comparison.difference)}' for comparison in comparisons[:NUM_EXAMPLES]]
    if len(comparisons) > NUM_EXAMPLES:
        shown.append(f'and {len(comparisons) - NUM_EXAMPLES} more')
    return '; '.join(shown)


def _names(rows: Sequence[Row]) -> list[str]:
    """Returns a short unique name for each row. Columns that are equal in all rows are omitted."""
    def varies(values: Sequence[object]) -> bool:
        return len(set(values)) > 1
    with_data, with_labels = varies([row.data for row in rows]), varies([row.labels for row in rows])
    names = []
    for row in rows:
        name = f'{row.task} on {row.data}' if with_data else row.task
        if varies([other.metric for other in rows if (other.task, other.data) == (row.task, row.data)]):
            name += f', {row.metric}'
        names.append(name + (f', {row.labels * 100:.3g} % of the labels' if with_labels else ''))
    return names
