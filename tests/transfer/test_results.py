"""Table: its statistics are those of NumPy, SciPy and the definition of Holm's correction."""
import math

import numpy as np
import pytest
from scipy import stats

from mae_backbone.transfer.results import (
    CellResult,
    Difference,
    Summary,
    compare,
    format_difference,
    format_summary,
    holm,
    make_table,
    summarize,
    table_cells,
)


def values(seeds: int, chance: np.random.Generator) -> dict[int, float]:
    return dict(enumerate(chance.normal(60, 3, seeds).tolist()))


@pytest.mark.parametrize('seeds', [2, 3, 10])
def test_statistics_equal_numpy_and_scipy(seeds: int):
    chance = np.random.default_rng(seeds)
    ours, theirs = values(seeds, chance), values(seeds, chance)
    mean, std, number = summarize(ours.values())
    assert (mean, std, number) == (pytest.approx(np.mean(list(ours.values()))),
                                   pytest.approx(np.std(list(ours.values()), ddof=1)), seeds)
    found = compare(ours, theirs)
    assert found.p == pytest.approx(stats.ttest_rel(list(ours.values()), list(theirs.values())).pvalue)
    assert found.mean == pytest.approx(mean - np.mean(list(theirs.values())))
    interval = stats.ttest_rel(list(ours.values()), list(theirs.values())).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    back = compare(theirs, ours)
    assert back[:6] == pytest.approx((-found.mean, found.std, seeds, -found.high, -found.low, found.p))


def test_holm_correction_equals_a_published_example():
    """Four p values, as in Holm (1979): each is multiplied by the number of hypotheses that are left."""
    assert holm([0.01, 0.04, math.nan, 0.03, 0.005]) == pytest.approx([0.03, 0.06, math.nan, 0.06, 0.02], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_table_corrects_for_all_its_comparisons():
    chance = np.random.default_rng(0)
    results = [CellResult('knn', data, 1.0, seed, model, {'top-1': 50 + (model == 'mae') + float(chance.normal())}, 1.0)
               for data in ('a', 'b', 'c') for model in ('mae', 'random') for seed in range(4)]
    found = [row.differences['random'] for row in make_table(results, ['random']) if row.model == 'mae']
    assert [difference.p_holm for difference in found] == pytest.approx(holm([difference.p for difference in found]))
    assert min(difference.p_holm for difference in found) == pytest.approx(3 * min(found, key=lambda d: d.p).p)


def test_differences_are_paired_by_seed():
    ours, theirs = {0: 10.0, 1: 20.0, 2: 31.0}, {2: 30.0, 1: 18.0, 0: 9.0, 7: 99.0}
    assert compare(ours, theirs)[:3] == (pytest.approx(4 / 3), pytest.approx(np.std([1, 2, 1], ddof=1)), 3)
    assert compare(ours, {7: 1.0}) is None


def test_p_value_is_missing_without_variation():
    assert math.isnan(compare({0: 1.0}, {0: 2.0}).p)
    shifted = {0: 60.1, 1: 61.3, 2: 59.7}
    assert math.isnan(compare(shifted, {seed: value - 0.1 for seed, value in shifted.items()}).p), 'rounding alone'
    assert math.isnan(summarize([1.0]).std)
    with pytest.raises(ValueError, match='no values'):
        summarize([])


def test_rows_compare_each_judged_encoder_with_each_reference():
    outcomes = [CellResult('knn', 'set', 0.1, seed, model, {'top-1': base + seed * scale}, 1.0)
                for model, base, scale in (('mae', 60, 1), ('random', 40, 2), ('other', 50, 3)) for seed in (0, 1)]
    rows = make_table(outcomes, ['random', 'other'])
    assert [row.model for row in rows] == ['mae', 'random', 'other']
    assert {name: found.mean for name, found in rows[0].differences.items()} == {'random': 19.5, 'other': 9.0}
    assert rows[1].differences == rows[2].differences == {}
    head, cells = table_cells(rows, ['random', 'other'], [dict(task='knn', data='set', metric='top-1', value=77.0,
                                                                  name='a paper', source='table 1')])
    assert all(len(line) == len(head) for line in cells)
    assert head[-2:] == ['vs random', 'vs other']
    assert cells[0][:7] == ['knn', 'set', 'top-1', '10 %', 'mae', '60.5 ± 0.7', '2']
    assert cells[3][4:7] == ['reported: a paper', '77.0', 'table 1']


def test_a_missing_cell_leaves_a_gap():
    rows = make_table([CellResult('knn', 'set', 1.0, 0, 'mae', {'top-1': 60.0}, 1.0)], ['random'])
    assert table_cells(rows, ['random'])[1] == [['knn', 'set', 'top-1', '100 %', 'mae', '60.0', '1', '-']]


@pytest.mark.parametrize(('difference', 'words'), [
    (Difference(1.26, 0.2, 3, 0.8, 1.74, 0.0012, 0.0412), '+1.3 (0.8 to 1.7), p 0.041'),
    (Difference(-4.0, 0.1, 9, -4.1, -3.9, 1e-8, 1e-7), '-4.0 (-4.1 to -3.9), p < 0.001'),
    (Difference(2.0, math.nan, 1), '+2.0'), (None, '-')])
def test_formatted_differences(difference: Difference | None, words: str):
    assert format_difference(difference) == words


def test_formatted_summaries():
    assert format_summary(Summary(61.26, 0.44, 3)) == '61.3 ± 0.4'
    assert format_summary(Summary(61.26, math.nan, 1)) == '61.3'
