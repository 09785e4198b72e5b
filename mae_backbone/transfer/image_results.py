"""Results of single images: correct predictions packed as text, and bootstrap intervals over images."""
import base64
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

NUM_SAMPLES = 10_000
CONFIDENCE = 0.95
_SEED = 0


class ImageInterval(NamedTuple):
    """95 % interval of a difference in points, from a bootstrap over images with fixed seeds."""

    low: float
    high: float


def to_text(correct: np.ndarray) -> dict[str, str | int]:
    """Packs an array (N,) bool, True for correct predictions, into a base64 text with one bit per image."""
    return {'images': len(correct), 'bits': base64.b64encode(np.packbits(np.asarray(correct, bool)).tobytes()).decode()}


def from_text(packed: Mapping[str, str | int]) -> np.ndarray:
    """Inverse of `to_text`.

    Raises:
        ValueError: the text is not from `to_text`.
    """
    bits = np.unpackbits(np.frombuffer(base64.b64decode(str(packed['bits']), validate=True), np.uint8))
    number = int(packed['images'])
    if not 0 < number <= len(bits) < number + 8:
        raise ValueError(f'{len(bits)} bits do not hold the results of {number} images')
    return bits[:number].astype(bool)


def bootstrap(encoder: Sequence[np.ndarray], reference: Sequence[np.ndarray]) -> ImageInterval | None:
    """Returns the 95 % percentile interval of the mean difference in points, or None if the inputs do not match.

    The bootstrap draws images with replacement. An image is drawn together with its results for all seeds. The interval
    shows how much the result depends on the choice of the validation images. It does not show how much the result
    depends on the seed, which determines the labels and the initial weights.

    Args:
        encoder, reference: correct predictions (N,) bool for each seed, with the same order of seeds and of images.
    """
    if len(encoder) != len(reference) or not encoder or len({len(right) for right in [*encoder, *reference]}) != 1:
        return None
    difference = np.sum(np.asarray(encoder, int) - np.asarray(reference, int), axis=0)  # (N,) of few distinct values
    values, counts = np.unique(difference, return_counts=True)
    drawn = np.random.default_rng(_SEED).multinomial(len(difference), counts / len(difference), size=NUM_SAMPLES)
    means = 100 * (drawn @ values) / (len(difference) * len(encoder))
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return ImageInterval(float(low), float(high))
