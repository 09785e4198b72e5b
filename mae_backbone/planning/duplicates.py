"""Finds duplicates in a data set: equal files, and images that look the same."""
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# Two images look the same if at most 6 of the 64 signs of their gradients differ (dHash of 8 x 8), and if the
# correlation of their thumbnails is 0.98 or more. If an image is saved as a JPEG of another quality or size, 0 to 2
# signs differ and the correlation is 0.999. The second condition is needed because dark images with few objects have
# few gradients. The limits are our choices.
_MAX_DISTANCE = 6
_MIN_CORRELATION = 0.98
_MIN_DEVIATION = 4.0  # thumbnails with a smaller standard deviation (0 to 255) are not compared
_BLOCK = 256          # rows of the matrix of products in memory at once


class Pair(NamedTuple):
    """Two images, by their indices."""

    first: int
    second: int


def equal_files(sizes: Sequence[int], digests: Sequence[str]) -> list[list[int]]:
    """Returns groups of indices of two or more files with equal size and digest. Skips files with the digest ''.

    Args:
        sizes: size of each file in bytes.
        digests: hash of the content of each file; '' for files that cannot be read.
    """
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, key in enumerate(zip(sizes, digests, strict=True)):
        if key[1]:
            groups[key].append(index)
    return [group for group in groups.values() if len(group) > 1]


def similar_pairs(thumbnails: np.ndarray, *, limit: int = 100_000) -> list[Pair]:
    """Returns at most `limit` pairs of thumbnails (N, 16, 16) uint8 that look the same."""
    gray = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    centered = gray - gray.mean(axis=1, keepdims=True)
    deviation = centered.std(axis=1)
    kept = np.flatnonzero(deviation >= _MIN_DEVIATION)
    if len(kept) < 2:
        return []
    signs = gradient_signs(thumbnails[kept])                                      # (N, 64) of -1 and 1
    unit = centered[kept] / (deviation[kept, None] * np.sqrt(gray.shape[1], dtype=np.float32))
    pairs: list[Pair] = []
    for start in range(0, len(kept), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # The product of two vectors of 64 signs is 64 - 2 * (number of signs that differ).
        near = signs[rows] @ signs[start:].T >= 64 - 2 * _MAX_DISTANCE            # (block, N - start)
        first, second = np.nonzero(np.triu(near, k=1))
        first, second = first + start, second + start
        same = np.einsum('ij,ij->i', unit[first], unit[second]) >= _MIN_CORRELATION
        pairs += [Pair(*pair) for pair in zip(kept[first[same]].tolist(), kept[second[same]].tolist(), strict=True)]
        if len(pairs) >= limit:
            return pairs[:limit]
    return pairs


def gradient_signs(thumbnails: np.ndarray) -> np.ndarray:
    """Signs of the horizontal gradient of thumbnails on a grid of 8 x 8: (N, S, S) uint8 -> (N, 64) float32, 1 or -1.

    The sign is 1 if the brightness increases to the right, otherwise -1.
    """
    small = np.stack([cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA) for image in thumbnails])
    signs = small[:, :, 1:].astype(np.int16) > small[:, :, :-1]
    return np.where(signs.reshape(len(thumbnails), 64), np.float32(1), np.float32(-1))


def across(pairs: Sequence[Pair], splits: Sequence[str]) -> list[Pair]:
    """Returns the pairs whose images are in different splits.

    Args:
        pairs: pairs of indices.
        splits: name of the split of each image.
    """
    return [pair for pair in pairs if splits[pair.first] != splits[pair.second]]


def pairs_in(groups: Sequence[Sequence[int]]) -> list[Pair]:
    """Returns, for each group, the pairs of its first image with each of its other images."""
    return [Pair(group[0], other) for group in groups for other in group[1:]]
