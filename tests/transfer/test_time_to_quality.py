"""Time to quality: nothing is interpolated, and nothing is claimed that a seed does not show."""
import numpy as np
import pytest

from mae_backbone.transfer.results import CellResult
from mae_backbone.transfer.time_to_quality import (
    curves_of,
    format_time,
    fraction_of_time,
    mean_curve,
    sentences,
    times_to_quality,
)


def result(model: str, seed: int, points: list) -> CellResult:
    return CellResult('tune', 'one', 0.1, seed, model, {'top-1': points[-1][2]}, 1.0, curves={'top-1': points})


def test_the_fraction_is_that_of_the_first_validation_that_is_as_good():
    theirs = [[1, 2.0, 10.0], [2, 4.0, 30.0]]
    assert fraction_of_time([[1, 1.0, 29.0], [2, 3.0, 31.0], [3, 5.0, 20.0]], theirs) == 0.75
    assert fraction_of_time([[1, 1.0, 30.0]], theirs) == 0.25
    assert fraction_of_time([[1, 1.0, 29.9]], theirs) is None
    assert fraction_of_time(theirs, theirs) == 1.0


def test_seeds_are_compared_with_the_same_seed_and_all_have_to_agree():
    results = [result('random', seed, [[1, 5.0, 10.0], [2, 10.0, 30.0 + seed]]) for seed in (0, 1)]
    results += [result('mae', 0, [[1, 5.0, 35.0], [2, 10.0, 40.0]]), result('mae', 1, [[1, 4.0, 20.0], [2, 8.0, 50.0]]),
                result('mae', 2, [[1, 4.0, 20.0], [2, 8.0, 50.0]])]
    [found] = times_to_quality(results, [('mae', 'random'), ('other', 'random')])
    assert found.fractions == [0.5, 0.8]
    assert (found.final, found.minutes) == (30.5, 10.0)
    assert format_time(found) == 'after 65 % (50 to 80) of the time, 2 of 2 seeds'
    assert sentences([found]) == ['tune on one, 10 % of the labels: mae reaches the final top-1 of random weights, '
                                  '30.5, after 65 % of its 10.0 minutes.']
    unsure = found._replace(fractions=[0.5, None])
    assert sentences([unsure]) == sentences([found._replace(fractions=[0.5, 1.0])]) == []
    assert format_time(unsure) == 'after 50 % of the time, 1 of 2 seeds'
    assert format_time(found._replace(fractions=[None])) == 'not reached, 0 of 1 seeds'


def test_minutes_of_a_gpu_and_of_a_cpu_are_not_compared():
    """An experiment may continue on another kind of machine."""
    ours, theirs = (result(model, 0, [[1, 5.0, 10.0], [2, 10.0, 30.0]]) for model in ('mae', 'random'))
    assert times_to_quality([ours, theirs], [('mae', 'random')])
    assert not times_to_quality([ours, theirs._replace(clock='minutes')], [('mae', 'random')])
    assert times_to_quality([one._replace(clock='minutes') for one in (ours, theirs)], [('mae', 'random')])


def test_trainings_with_one_validation_say_nothing_about_time():
    results = [result(model, 0, [[2, 10.0, 30.0]]) for model in ('mae', 'random')]
    assert times_to_quality(results, [('mae', 'random')]) == []


def test_the_mean_curve_ends_where_the_shortest_one_ends():
    curves = {0: [[1, 1.0, 10.0], [2, 2.0, 20.0]], 1: [[1, 3.0, 20.0], [2, 4.0, 40.0], [3, 9.0, 0.0]]}
    minutes, mean, deviation = mean_curve(curves)
    assert minutes.tolist() == [2.0, 3.0]
    assert mean.tolist() == [15.0, 30.0]
    assert deviation == pytest.approx(np.std([[10, 20], [20, 40]], axis=0, ddof=1))
    assert mean_curve({0: curves[0]})[2].tolist() == [0.0, 0.0]


def test_curves_are_found_by_comparison_encoder_and_seed():
    points = [[1, 1.0, 10.0]]
    empty = CellResult('knn', 'one', 1.0, 0, 'mae', {'top-1': 1.0}, 1.0)
    assert curves_of([result('mae', 3, points), empty]) == {('tune', 'one', 'top-1', 0.1): {'mae': {3: points}}}
