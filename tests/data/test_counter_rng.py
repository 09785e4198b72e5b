"""Random numbers as functions are uniform, independent, and never change."""
import numpy as np

from mae_backbone.data.counter_rng import hashed, mix, uniforms


def test_mix_equals_splitmix64():
    # First outputs of the reference code (Vigna, prng.di.unimi.it/splitmix64.c) from state 0.
    states = np.arange(3, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert [hex(x) for x in mix(states)] == ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4', '0x6c45d188009454f']


def test_hash_depends_on_all_numbers_and_their_order():
    numbers = [hashed(*key)[0] for key in [(0,), (1,), (0, 0), (0, 1), (1, 0), (2**63 - 1, 1), (0, 0, 0)]]
    assert len(set(numbers)) == 7
    assert hashed(3, np.arange(5)).tolist() == [hashed(3, i)[0] for i in range(5)]


def test_uniforms_are_uniform_and_independent():
    numbers = uniforms(np.arange(20_000), 4, stream=1)
    assert numbers.shape == (20_000, 4)
    assert 0 <= numbers.min() < 0.001 < 0.999 < numbers.max() < 1
    counts = np.stack([np.histogram(column, 50, (0, 1))[0] for column in numbers.T])
    assert (((counts - 400) ** 2 / 400).sum(axis=1) < 90).all()  # chi square of 49 degrees: 90 in one of 3,000
    others = uniforms(np.arange(20_000), 4, stream=2)
    correlation = np.corrcoef(np.concatenate([numbers, others, np.roll(numbers, 1, axis=0)], axis=1).T)
    assert np.abs(correlation - np.eye(12)).max() < 0.03
    assert uniforms([5], 2, stream=1)[0].tolist() == numbers[5, :2].tolist()
