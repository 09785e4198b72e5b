"""Random numbers as a function of counters: the same wherever and whenever they are asked for.

A generator has a state, which workers, processes and resumed runs would each have to bring to the same place. A hash
has none, and costs no more than a generator's creation for each image would.
"""
import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: the step of SplitMix64


def mix(numbers: np.ndarray) -> np.ndarray:
    """A bijection of uint64 numbers of any shape after which neighbors have nothing in common.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators).
    """
    x = numbers + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashed(*numbers: int | np.ndarray) -> np.ndarray:
    """Integers, or arrays of them that broadcast -> uint64 numbers that depend on all of them and on their order."""
    state = np.zeros(1, np.uint64)
    for number in numbers:
        state = mix(state) + np.atleast_1d(np.asarray(number, np.int64)).astype(np.uint64)
    return mix(state)


def uniforms(seeds: np.ndarray, count: int, *, stream: int) -> np.ndarray:
    """seeds (B,) -> (B, count) float64 in [0, 1); each `stream` of a seed has numbers of its own."""
    bits = hashed(np.asarray(seeds, np.int64)[:, None], stream, np.arange(count))
    return (bits >> np.uint64(11)) * 2.0**-53
