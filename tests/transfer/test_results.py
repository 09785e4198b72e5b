"""The table: its arithmetic is that of NumPy and SciPy, its words say no more than it knows."""
import math

import numpy as np
import pytest
from scipy import stats

from mae_backbone.transfer.results import (
    Difference,
    Outcome,
    Summary,
    cells_of_table,
    compare,
    summarize,
    table,
    words_of,
    words_of_difference,
)


def values(seeds: int, chance: np.random.Generator) -> dict[int, float]:
    return dict(enumerate(chance.normal(60, 3, seeds).tolist()))


@pytest.mark.parametrize('seeds', [2, 3, 10])
def test_means_deviations_and_p_are_those_of_numpy_and_scipy(seeds: int):
    chance = np.random.default_rng(seeds)
    ours, theirs = values(seeds, chance), values(seeds, chance)
    mean, std, number = summarize(ours.values())
    assert (mean, std, number) == (pytest.approx(np.mean(list(ours.values()))),
                                   pytest.approx(np.std(list(ours.values()), ddof=1)), seeds)
    found = compare(ours, theirs)
    assert found.p == pytest.approx(stats.ttest_rel(list(ours.values()), list(theirs.values())).pvalue)
    assert found.mean == pytest.approx(mean - np.mean(list(theirs.values())))
    back = compare(theirs, ours)
    assert (back.mean, back.std, back.p) == pytest.approx((-found.mean, found.std, found.p))


def test_the_test_is_paired_by_seed_not_by_order():
    ours, theirs = {0: 10.0, 1: 20.0, 2: 31.0}, {2: 30.0, 1: 18.0, 0: 9.0, 7: 99.0}
    assert compare(ours, theirs)[:3] == (pytest.approx(4 / 3), pytest.approx(np.std([1, 2, 1], ddof=1)), 3)
    assert compare(ours, {7: 1.0}) is None


def test_no_certainty_without_a_spread():
    assert math.isnan(compare({0: 1.0}, {0: 2.0}).p)
    shifted = {0: 60.1, 1: 61.3, 2: 59.7}
    assert math.isnan(compare(shifted, {seed: value - 0.1 for seed, value in shifted.items()}).p), 'rounding alone'
    assert math.isnan(summarize([1.0]).std)
    with pytest.raises(ValueError, match='no values'):
        summarize([])


def test_rows_compare_each_judged_encoder_with_each_reference():
    outcomes = [Outcome('knn', 'set', 0.1, seed, model, {'top-1': base + seed * scale}, 1.0)
                for model, base, scale in (('mae', 60, 1), ('random', 40, 2), ('other', 50, 3)) for seed in (0, 1)]
    rows = table(outcomes, ['random', 'other'])
    assert [row.model for row in rows] == ['mae', 'random', 'other']
    assert {name: found.mean for name, found in rows[0].differences.items()} == {'random': 19.5, 'other': 9.0}
    assert rows[1].differences == rows[2].differences == {}
    head, cells = cells_of_table(rows, ['random', 'other'], [dict(task='knn', data='set', metric='top-1', value=77.0,
                                                                  name='a paper', source='table 1')])
    assert all(len(line) == len(head) for line in cells)
    assert head[-2:] == ['vs random', 'vs other']
    assert cells[0][:7] == ['knn', 'set', 'top-1', '10 %', 'mae', '60.5 ± 0.7', '2']
    assert cells[3][4:7] == ['reported: a paper', '77.0', 'table 1']


def test_a_missing_cell_leaves_a_gap_not_an_error():
    rows = table([Outcome('knn', 'set', 1.0, 0, 'mae', {'top-1': 60.0}, 1.0)], ['random'])
    assert cells_of_table(rows, ['random'])[1] == [['knn', 'set', 'top-1', '100 %', 'mae', '60.0', '1', '-']]


@pytest.mark.parametrize(('difference', 'words'), [
    (Difference(1.26, 0.2, 3, 0.0412), '+1.3 (p 0.041)'), (Difference(-4.0, 0.1, 9, 1e-7), '-4.0 (p < 0.001)'),
    (Difference(2.0, math.nan, 1, math.nan), '+2.0'), (None, '-')])
def test_differences_in_words(difference: Difference | None, words: str):
    assert words_of_difference(difference) == words


def test_summaries_in_words():
    assert words_of(Summary(61.26, 0.44, 3)) == '61.3 ± 0.4'
    assert words_of(Summary(61.26, math.nan, 1)) == '61.3'
