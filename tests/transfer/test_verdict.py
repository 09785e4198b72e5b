"""Verdict: no claim without an interval and a corrected p value."""
import math
from pathlib import Path

import pytest

from mae_backbone.transfer.charts import difference_chart
from mae_backbone.transfer.encoders import Encoder
from mae_backbone.transfer.results import CellResult, Difference, make_table
from mae_backbone.transfer.verdict import outcome_of, sentence, verdicts

ENCODERS = [Encoder('early', Path('run/iter_1.pth'), False, 1, 'iter'),
            Encoder('mae', Path('run/iter_2.pth'), False, 2, 'iter'),
            Encoder('random', None, True)]


def difference(mean: float, low: float, high: float, p: float) -> Difference:
    return Difference(mean, 1.0, 3, low, high, p, p)


@pytest.mark.parametrize(('given', 'expected'), [
    (difference(4.9, 2.1, 7.7, 0.01), 'better'), (difference(-4.9, -7.7, -2.1, 0.01), 'worse'),
    (difference(0.1, -0.5, 0.7, 0.6), 'level'), (difference(4.0, -0.5, 8.5, 0.07), 'undecided'),
    (difference(4.0, 0.5, 7.5, 0.04)._replace(p_holm=0.2), 'undecided'),  # not after the correction
    (Difference(30.0, math.nan, 1), 'undecided'), (Difference(30.0, 0.0, 3), 'undecided')])
def test_outcomes_need_a_corrected_p_value_or_a_narrow_interval(given: Difference, expected: str):
    assert outcome_of(given) == expected


def results(effects: dict[str, tuple[float, float, int]]) -> list[CellResult]:
    """Cells of tasks with a mean difference, a spread of the differences, and a number of seeds."""
    def value(seed: int, effect: float) -> dict[str, float]:
        return {'top-1': 50 + seed + effect}
    return [CellResult(task, 'set', 1.0, seed, model,
                       value(seed, (mean + spread * (seed % 2)) * (model == 'mae')), 1.0)
            for task, (mean, spread, seeds) in effects.items() for model in ('mae', 'random') for seed in range(seeds)]


def test_sentence_counts_comparisons_and_names_the_rest():
    effects = {'a': (10, 0.2, 4), 'b': (-10, 0.2, 4), 'c': (0, 0.1, 4), 'd': (5, 9, 3), 'e': (9, 0, 1)}
    rows = make_table(results(effects), ['random'])
    [verdict] = verdicts(rows, ENCODERS)
    text = sentence(verdict)
    assert text.startswith('mae beats random weights in 1 of 5 comparisons: a: +10.1, 95 % interval 9.9 to 10.3. '
                           'It loses in 1: b: -9.9, ')
    assert 'Level within 1 point in 1: c: +0.1' in text
    assert 'Not enough seeds to tell in 2: d: +8.0, 95 % interval ' in text
    assert text.endswith('e: +9.0, one seed.')


def test_without_enough_seeds_nothing_is_claimed():
    rows = make_table(results({'a': (40, 0, 1), 'b': (40, 0, 3)}), ['random'])
    [verdict] = verdicts(rows, ENCODERS)
    assert sentence(verdict) == ('There are not enough seeds to tell whether mae is better than random weights: '
                                 'a: +40.0, one seed; b: +40.0, the same for 3 seeds.')


def test_all_and_none_are_said_as_such():
    for mean, text in ((9, 'mae beats random weights in both comparisons: '),
                       (-9, 'mae beats random weights in none of 2 comparisons. It loses in 2: ')):
        [verdict] = verdicts(make_table(results({'a': (mean, 0.2, 4), 'b': (mean, 0.2, 4)}), ['random']), ENCODERS)
        assert sentence(verdict).startswith(text)


def test_there_is_a_verdict_for_the_last_encoder_of_each_run_only():
    cells = results({'a': (9, 0.2, 4)})
    cells += [cell._replace(model='early') for cell in cells if cell.model == 'mae']
    assert [verdict.model for verdict in verdicts(make_table(cells, ['random']), ENCODERS)] == ['mae']


def test_a_chart_shows_each_difference_on_one_axis():
    rows = make_table(results({'a': (10, 0.2, 4), 'b': (-5, 0.2, 4), 'c': (5, 9, 2), 'd': (1, 0, 1)}), ['random'])
    [verdict] = verdicts(rows, ENCODERS)
    chart = difference_chart(verdict)
    a, b, c, d = chart['bars']
    zero = chart['zero']
    assert a['start'] == zero
    assert b['start'] + b['width'] == pytest.approx(zero)
    assert 0 < a['low'] < a['start'] + a['width'] < a['high'] < 100
    assert (c['low'], c['high']) == (0, 100), 'cut at the edges: two seeds have a long interval'
    assert d['low'] is None
    assert a['width'] > 15
