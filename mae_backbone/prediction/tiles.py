"""Images far larger than those of the training: looked at tile by tile, and what was found put together."""
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mae_backbone.prediction.instances import Objects

# Ours, all three. From which overlap on two boxes are taken for the same object, as in the NMS of Mask R-CNN; the share
# of a box that lies in a larger one, from which on it is taken for a part of it; and how near to the border of a tile a
# box counts as cut by it, in pixels and as a share of the tile.
SAME, PART = 0.5, 0.5
NEAR_PIXELS, NEAR_SHARE = 2, 0.01


class Tile(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def starts(length: int, side: int, stride: int) -> list[int]:
    """Where windows of `side` pixels begin along `length` pixels, `stride` apart; the last one ends where they do."""
    count = max(length - side + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - side), 0) for i in range(count)]


def grid(size: tuple[int, int], side: tuple[int, int], stride: tuple[int, int]) -> list[Tile]:
    """Tiles that cover an image of `size` (H, W), row by row; those of mmseg's `slide_inference`."""
    height, width = min(side[0], size[0]), min(side[1], size[1])
    return [Tile(top, left, height, width) for top in starts(size[0], side[0], stride[0])
            for left in starts(size[1], side[1], stride[1])]


def square_grid(size: tuple[int, int], side: int, overlap: float) -> list[Tile]:
    """Tiles of `side` pixels, of which neighbors share at least that part of their side.

    Raises:
        ValueError: a side or an overlap that leads nowhere.
    """
    if side < 1 or not 0 <= overlap < 1:
        raise ValueError(f'tiles of {side} pixels that overlap by {overlap}: wanted a side of at least a pixel, best '
                         'the size that was trained with, and an overlap from 0 to below 1')
    stride = max(1, round(side * (1 - overlap)))
    return grid(size, (side, side), (stride, stride))


def merge(tiles: Sequence[Tile], parts: Sequence[Objects], size: tuple[int, int]) -> Objects:
    """What was found in each of the tiles of an image of `size` (H, W), in its coordinates -> what is in the image.

    Two finds of a class are the same object if their boxes overlap by `SAME`, each clipped to what the other tile saw
    where that tile cut the object. Of an object that is whole in several tiles the best find stays (NMS across
    tiles). What a border cut gives way to a whole find that it agrees with or mostly lies in. Of objects that no tile
    has whole, the finds of several tiles are joined. Finds of one tile never meet.
    """
    if len(parts) == 1:
        return parts[0]
    found = Objects.together(parts)
    tile_of = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    cut = _is_cut(found.boxes, np.array(tiles)[tile_of], size)
    pairs, overlap = _pairs(tiles, found, tile_of, cut)
    kept = _whole_first(found, cut, pairs)
    to_join = (kept & cut)[pairs].all(1)
    return _joined(found, kept, _groups(pairs[to_join], overlap[to_join], tile_of))


def predict_tiles(image: np.ndarray, tiles: Sequence[Tile], predict: Callable[[np.ndarray], Objects]) -> Objects:
    """image (H, W, 3) -> what `predict` finds in the tiles of it, merged."""
    parts = [predict(np.ascontiguousarray(image[tile.slices])).shifted(tile.top, tile.left) for tile in tiles]
    return merge(tiles, parts, image.shape[:2])


def _is_cut(boxes: np.ndarray, tiles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """boxes (N, 4), each with its tile (N, 4) -> (N,) bool: ends at a border that is not one of the image."""
    begin, sides, total = tiles[:, :2], tiles[:, 2:], np.array(size)
    near = np.maximum(NEAR_PIXELS, NEAR_SHARE * sides)
    head, foot = boxes[:, [1, 0]] - begin, begin + sides - boxes[:, [3, 2]]  # vertical, horizontal
    return (((head < near) & (begin > 0)) | ((foot < near) & (begin + sides < total))).any(1)


def _pairs(tiles: Sequence[Tile], found: Objects, tile_of: np.ndarray,
           cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds of different tiles that are the same object (M, 2), and by how much they overlap (M,)."""
    boxes = np.array([(left, top, left + width, top + height) for top, left, height, width in tiles], np.float32)
    members = np.split(np.arange(len(tile_of)), np.searchsorted(tile_of, np.arange(1, len(tiles))))
    pairs, overlaps = [np.empty((0, 2), int)], [np.empty(0)]
    for one in range(len(tiles)):
        low, high = np.maximum(boxes[one, :2], boxes[one + 1:, :2]), np.minimum(boxes[one, 2:], boxes[one + 1:, 2:])
        for other in one + 1 + np.flatnonzero((low < high).all(1)):
            shared = np.concatenate([low[other - one - 1], high[other - one - 1]])
            pair, overlap = _matches(found, members[one], members[other], shared, cut)
            pairs.append(pair)
            overlaps.append(overlap)
    return np.concatenate(pairs), np.concatenate(overlaps)


def _matches(found: Objects, first: np.ndarray, second: np.ndarray, shared: np.ndarray,
             cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs among finds of two tiles which share the box `shared`.

    What the other tile cut can only be compared where that tile saw it: a box is clipped for those that were cut, and
    stays as it is for those that were not.
    """
    first, second = (index[_area(_clipped(found.boxes[index], shared)) > 0] for index in (first, second))
    one, other = found.boxes[first], found.boxes[second]
    a = np.where(cut[second][None, :, None], _clipped(one, shared)[:, None], one[:, None])
    b = np.where(cut[first][:, None, None], _clipped(other, shared)[None], other[None])
    inner = _area(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=2))
    overlap = inner / (_area(a) + _area(b) - inner)
    within_b, within_a = inner / _area(one)[:, None], inner / _area(other)[None]
    part = (cut[first][:, None] & ~cut[second][None] & (within_b >= PART)
            | ~cut[first][:, None] & cut[second][None] & (within_a >= PART))
    same = found.labels[first][:, None] == found.labels[second][None]
    i, j = np.nonzero(same & ((overlap >= SAME) | part))
    return np.stack([first[i], second[j]], 1), overlap[i, j]


def _clipped(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])], 1)


def _area(boxes: np.ndarray) -> np.ndarray:
    """boxes (..., 4) -> (...,), 0 for those that are turned inside out."""
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)


def _whole_first(found: Objects, cut: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(N,) bool: what stays if in each pair a whole find drops a cut one, and a whole one a worse whole one."""
    partners = defaultdict(list)
    for i, j in pairs.tolist():
        partners[i].append(j)
        partners[j].append(i)
    kept = np.ones(len(found), bool)
    for i in np.lexsort((-found.scores, cut)).tolist():
        if not kept[i] or cut[i]:
            continue
        for j in partners[i]:
            kept[j] = False  # a better whole one would have dropped this one first
    return kept


def _groups(pairs: np.ndarray, overlap: np.ndarray, tile_of: np.ndarray) -> list[list[int]]:
    """Parts of the same object, at most one of each tile; those that overlap best are joined first."""
    group = {i: [i] for i in np.unique(pairs).tolist()}
    for i, j in pairs[np.argsort(-overlap, kind='stable')].tolist():
        mine, other = group[i], group[j]
        if not {tile_of[k] for k in mine} & {tile_of[k] for k in other}:
            mine += other
            group.update(dict.fromkeys(other, mine))
    return list({id(parts): parts for parts in group.values() if len(parts) > 1}.values())


def _joined(found: Objects, kept: np.ndarray, groups: list[list[int]]) -> Objects:
    """Those kept, each group as one object: the box around its boxes, all of its masks, its best score."""
    boxes, scores, masks = found.boxes.copy(), found.scores.copy(), list(found.masks or [])
    kept = kept.copy()
    for group in groups:
        head = group[0]
        boxes[head] = np.concatenate([boxes[group, :2].min(0), boxes[group, 2:].max(0)])
        scores[head] = scores[group].max()
        for other in group[1:] if masks else []:
            masks[head] = masks[head].joined(masks[other])
        kept[group[1:]] = False
    index = np.flatnonzero(kept)
    index = index[np.argsort(-scores[index], kind='stable')]
    return Objects(boxes, scores, found.labels, masks if found.masks is not None else None).take(index)
