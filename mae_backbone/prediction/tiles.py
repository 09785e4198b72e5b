"""Splits large images into tiles, and merges the instances that were predicted in each tile."""
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mae_backbone.prediction.instances import Instances

# These are our choices. Two boxes with at least this IoU are the same object, as in the NMS of Mask R-CNN.
SAME_IOU = 0.5
# A cut box and a whole box are the same object if the whole box contains at least this fraction of the cut box.
CONTAINED = 0.5
# A box is cut by the border of a tile if its distance to the border is below one of these limits: in pixels, and as a
# fraction of the tile.
BORDER_PIXELS, BORDER_FRACTION = 2, 0.01


class Tile(NamedTuple):
    """A box of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Slices of rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def starts(length: int, side: int, stride: int) -> list[int]:
    """Returns the first pixels of windows of `side` pixels that cover `length` pixels.

    Windows are `stride` pixels apart, except the last one, which ends at `length`.
    """
    count = max(length - side + stride - 1, 0) // stride + 1
    return [max(min(i * stride, length - side), 0) for i in range(count)]


def grid(size: tuple[int, int], side: tuple[int, int], stride: tuple[int, int]) -> list[Tile]:
    """Returns the tiles that cover an image, row by row, as in `slide_inference` of mmseg.

    Args:
        size: (H, W) of the image.
        side: (height, width) of a tile.
        stride: vertical and horizontal distance between the starts of neighboring tiles.
    """
    height, width = min(side[0], size[0]), min(side[1], size[1])
    return [Tile(top, left, height, width) for top in starts(size[0], side[0], stride[0])
            for left in starts(size[1], side[1], stride[1])]


def square_grid(size: tuple[int, int], side: int, overlap: float) -> list[Tile]:
    """Returns square tiles that cover an image of `size` (H, W).

    Args:
        size: (H, W) of the image.
        side: height and width of a tile in pixels.
        overlap: smallest overlap of neighboring tiles, as a fraction of `side`.

    Raises:
        ValueError: the side is below 1, or the overlap is outside of [0, 1).
    """
    if side < 1 or not 0 <= overlap < 1:
        raise ValueError(f'tiles of {side} pixels that overlap by {overlap}: expected a side of at least 1 pixel, best '
                         'the image size of the training, and an overlap from 0 to below 1')
    stride = max(1, round(side * (1 - overlap)))
    return grid(size, (side, side), (stride, stride))


def predict_tiles(image: np.ndarray, tiles: Sequence[Tile], predict: Callable[[np.ndarray], Instances]) -> Instances:
    """Calls `predict` for each tile of an image (H, W, 3), and merges the instances."""
    per_tile = [predict(np.ascontiguousarray(image[tile.slices])).shift(tile.top, tile.left) for tile in tiles]
    return merge(tiles, per_tile, image.shape[:2])


def merge(tiles: Sequence[Tile], per_tile: Sequence[Instances], size: tuple[int, int]) -> Instances:
    """Merges the instances of overlapping tiles, in coordinates of the image of `size` (H, W).

    Two instances of the same class from different tiles are the same object if the IoU of their boxes is at least
    `SAME_IOU`. If a tile cuts one of the two, the other box is first clipped to this tile. If an object has several
    instances that are not cut ("whole"), the instance with the highest score is kept (NMS across tiles). A cut instance
    is removed if it matches a whole instance or is mostly inside it. If no tile contains the whole object, its cut
    instances are joined. Instances of the same tile are never merged.

    Args:
        tiles: tiles of the image.
        per_tile: instances of each tile, in coordinates of the image.
        size: (H, W) of the image.
    """
    if len(per_tile) == 1:
        return per_tile[0]
    instances = Instances.concatenate(per_tile)
    tile_of = np.repeat(np.arange(len(per_tile)), [len(group) for group in per_tile])
    is_cut = _is_cut(instances.boxes, np.array(tiles)[tile_of], size)
    pairs, iou = _find_pairs(tiles, instances, tile_of, is_cut)
    keep = _suppress(instances, is_cut, pairs)
    both_cut = (keep & is_cut)[pairs].all(1)
    return _unite(instances, keep, _group(pairs[both_cut], iou[both_cut], tile_of))


def _is_cut(boxes: np.ndarray, tiles: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Boxes (N, 4) and their tiles (N, 4) -> (N,) bool, True for boxes that a tile border inside the image cuts."""
    begin, sides, total = tiles[:, :2], tiles[:, 2:], np.array(size)
    near = np.maximum(BORDER_PIXELS, BORDER_FRACTION * sides)
    before, after = boxes[:, [1, 0]] - begin, begin + sides - boxes[:, [3, 2]]  # vertical, horizontal
    return (((before < near) & (begin > 0)) | ((after < near) & (begin + sides < total))).any(1)


def _find_pairs(tiles: Sequence[Tile], instances: Instances, tile_of: np.ndarray,
                is_cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs (M, 2) of instances from different tiles that are the same object, and their IoU (M,)."""
    boxes = np.array([(left, top, left + width, top + height) for top, left, height, width in tiles], np.float32)
    members = np.split(np.arange(len(tile_of)), np.searchsorted(tile_of, np.arange(1, len(tiles))))
    pairs, ious = [np.empty((0, 2), int)], [np.empty(0)]
    for tile in range(len(tiles)):
        low = np.maximum(boxes[tile, :2], boxes[tile + 1:, :2])
        high = np.minimum(boxes[tile, 2:], boxes[tile + 1:, 2:])
        for other in tile + 1 + np.flatnonzero((low < high).all(1)):
            overlap = np.concatenate([low[other - tile - 1], high[other - tile - 1]])
            pair, iou = _match(instances, members[tile], members[other], overlap, is_cut)
            pairs.append(pair)
            ious.append(iou)
    return np.concatenate(pairs), np.concatenate(ious)


def _match(instances: Instances, first: np.ndarray, second: np.ndarray, overlap: np.ndarray,
           is_cut: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of instances of two tiles that are the same object, and their IoU.

    A cut instance shows only the part of the object inside its tile. Therefore, to compare it, the other box is clipped
    to the overlap of the tiles. For a whole instance the other box is not clipped.

    Args:
        instances: all instances.
        first, second: indices of the instances of each of the two tiles.
        overlap: box in which the tiles overlap.
        is_cut: (N,) bool, True for cut instances.
    """
    first, second = (index[_area(_clip(instances.boxes[index], overlap)) > 0] for index in (first, second))
    boxes, others = instances.boxes[first], instances.boxes[second]
    a = np.where(is_cut[second][None, :, None], _clip(boxes, overlap)[:, None], boxes[:, None])
    b = np.where(is_cut[first][:, None, None], _clip(others, overlap)[None], others[None])
    inner = _area(np.concatenate([np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])], axis=2))
    iou = inner / (_area(a) + _area(b) - inner)
    in_second, in_first = inner / _area(boxes)[:, None], inner / _area(others)[None]
    contained = (is_cut[first][:, None] & ~is_cut[second][None] & (in_second >= CONTAINED)
                 | ~is_cut[first][:, None] & is_cut[second][None] & (in_first >= CONTAINED))
    same_class = instances.labels[first][:, None] == instances.labels[second][None]
    i, j = np.nonzero(same_class & ((iou >= SAME_IOU) | contained))
    return np.stack([first[i], second[j]], 1), iou[i, j]


def _clip(boxes: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return np.concatenate([np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])], 1)


def _area(boxes: np.ndarray) -> np.ndarray:
    """boxes (..., 4) -> (...,); 0 if a side is negative."""
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)


def _suppress(instances: Instances, is_cut: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Returns (N,) bool, True for instances to keep.

    Of a pair, a whole instance suppresses a cut one. Of two whole instances, the one with the higher score suppresses
    the other.
    """
    partners = defaultdict(list)
    for i, j in pairs.tolist():
        partners[i].append(j)
        partners[j].append(i)
    keep = np.ones(len(instances), bool)
    for i in np.lexsort((-instances.scores, is_cut)).tolist():
        if not keep[i] or is_cut[i]:
            continue
        for j in partners[i]:
            keep[j] = False  # j is cut or has a lower score: otherwise it would already have suppressed i
    return keep


def _group(pairs: np.ndarray, iou: np.ndarray, tile_of: np.ndarray) -> list[list[int]]:
    """Returns groups of instances that are the same object, at most one from each tile.

    Pairs are added in the order of their IoU, highest first.
    """
    group = {i: [i] for i in np.unique(pairs).tolist()}
    for i, j in pairs[np.argsort(-iou, kind='stable')].tolist():
        mine, other = group[i], group[j]
        if not {tile_of[k] for k in mine} & {tile_of[k] for k in other}:
            mine += other
            group.update(dict.fromkeys(other, mine))
    return list({id(members): members for members in group.values() if len(members) > 1}.values())


def _unite(instances: Instances, keep: np.ndarray, groups: list[list[int]]) -> Instances:
    """Returns the kept instances, sorted by score.

    The instances of a group are replaced by one with the enclosing box, the union of the masks and the highest score.
    """
    boxes, scores, masks = instances.boxes.copy(), instances.scores.copy(), list(instances.masks or [])
    keep = keep.copy()
    for group in groups:
        head = group[0]
        boxes[head] = np.concatenate([boxes[group, :2].min(0), boxes[group, 2:].max(0)])
        scores[head] = scores[group].max()
        for other in group[1:] if masks else []:
            masks[head] = masks[head].union(masks[other])
        keep[group[1:]] = False
    index = np.flatnonzero(keep)
    index = index[np.argsort(-scores[index], kind='stable')]
    return Instances(boxes, scores, instances.labels, masks if instances.masks is not None else None).select(index)
