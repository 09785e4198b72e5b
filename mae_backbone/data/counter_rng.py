"""Random numbers as a function of counters: equal in every worker, process and resumed run.

A random generator has a state that workers, processes and resumed runs would have to restore. A hash has no state, and
costs no more than creating a generator per image.
"""
from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the step of SplitMix64


def mix(numbers: np.ndarray) -> np.ndarray:
    """Bijection of uint64 numbers of any shape that decorrelates neighboring numbers.

    The finalizer of SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators).
    """
    x = numbers + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashed(*numbers: int | np.ndarray) -> np.ndarray:
    """integers or broadcastable integer arrays -> uint64 hashes of all of them in this order."""
    state: np.ndarray = np.zeros(1, np.uint64)
    for number in numbers:
        state = mix(state) + np.atleast_1d(np.asarray(number, np.int64)).astype(np.uint64)
    return mix(state)


def uniforms(seeds: np.ndarray | Sequence[int], count: int, *, stream: int) -> np.ndarray:
    """seeds (B,) -> (B, count) float64 in [0, 1). Each `stream` of a seed has different numbers."""
    bits = hashed(np.asarray(seeds, np.int64)[:, None], stream, np.arange(count))
    return (bits >> np.uint64(11)) * 2.0**-53
