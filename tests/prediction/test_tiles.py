"""Tiles of large images, with a detector that finds each rectangle, cut or not, without error."""
from itertools import pairwise

import cv2
import numpy as np
import pytest

from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.prediction.tiles import Tile, grid, merge, predict_tiles, square_grid, starts


def perfect(image: np.ndarray) -> Instances:
    """image (H, W, 3) -> each of the rectangles, whose gray value says its class."""
    count, names, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 0).astype(np.uint8))
    stats = stats[1:]
    boxes = np.concatenate([stats[:, :2], stats[:, :2] + stats[:, 2:4]], 1).astype(np.float32).reshape(-1, 4)
    labels = np.array([image[..., 0][names == i].max() // 100 for i in range(1, count)], np.int64)
    masks = [CroppedRLE.from_mask(names == i) for i in range(1, count)]
    return Instances(boxes, np.linspace(0.9, 0.5, len(boxes), dtype=np.float32), labels, masks)


def scene(seed: int, *, largest: int, height: int = 150, width: int = 170) -> np.ndarray:
    """Rectangles of two classes that do not touch."""
    rng, image = np.random.default_rng(seed), np.zeros((height, width, 3), np.uint8)
    for _ in range(60):
        h, w = rng.integers(6, largest, 2)
        y, x = (rng.integers(0, side - part + 1) for side, part in ((height, h), (width, w)))
        if not image[max(y - 2, 0):y + h + 2, max(x - 2, 0):x + w + 2].any():
            image[y:y + h, x:x + w] = rng.choice([100, 200])
    return image


def described(objects: Instances, image: np.ndarray) -> list[tuple]:
    return sorted((*box, label, mask.in_image(*image.shape[:2])['counts']) for box, label, mask
                  in zip(objects.boxes.tolist(), objects.labels.tolist(), objects.masks, strict=True))


@pytest.mark.parametrize(('length', 'side', 'stride'), [(10, 4, 3), (10, 10, 5), (3, 5, 2), (100, 32, 17), (9, 4, 1)])
def test_windows_cover_every_pixel_and_stay_inside(length, side, stride):
    begins = starts(length, side, stride)
    covered = set().union(*(range(at, min(at + side, length)) for at in begins))
    assert covered == set(range(length))
    assert max(begins) + min(side, length) == length


@pytest.mark.parametrize('overlap', [0.1, 0.25, 0.5])
def test_neighboring_tiles_overlap_by_at_least_the_fraction(overlap):
    tiles = square_grid((300, 220), 64, overlap)
    lefts = sorted({tile.left for tile in tiles})
    assert all(64 - (right - left) >= round(64 * overlap) for left, right in pairwise(lefts))


@pytest.mark.parametrize(('side', 'overlap'), [(0, 0.2), (64, 1.0), (64, -0.1)])
def test_invalid_tiles_are_refused(side, overlap):
    with pytest.raises(ValueError, match='expected a side'):
        square_grid((100, 100), side, overlap)


@pytest.mark.parametrize('side', [170, 400])
def test_tile_as_large_as_the_image_changes_nothing(side):
    image = scene(0, largest=40)
    tiles = square_grid(image.shape[:2], side, 0.2)
    assert tiles == [Tile(0, 0, *image.shape[:2])]
    whole, tiled = perfect(image), predict_tiles(image, tiles, perfect)
    assert (tiled.boxes == whole.boxes).all()
    assert tiled.masks == whole.masks


@pytest.mark.parametrize('seed', range(6))
def test_objects_smaller_than_the_overlap_are_found_once(seed):
    image = scene(seed, largest=20)
    tiled = predict_tiles(image, square_grid(image.shape[:2], 64, 0.4), perfect)
    assert described(tiled, image) == described(perfect(image), image)


@pytest.mark.parametrize('seed', range(6))
def test_objects_larger_than_a_tile_are_united(seed):
    image = scene(seed, largest=100)
    tiled = predict_tiles(image, square_grid(image.shape[:2], 64, 0.3), perfect)
    assert described(tiled, image) == described(perfect(image), image)


def test_whole_instance_suppresses_a_better_cut_one():
    tiles = grid((100, 150), (100, 100), (50, 50))
    whole, part = np.float32([[55, 20, 97, 60]]), np.float32([[0, 20, 30, 60]])
    parts = [Instances(whole, np.float32([0.6]), np.array([0])), Instances(part, np.float32([0.99]), np.array([0]))]
    parts[1] = parts[1].shift(0, tiles[1].left)
    merged = merge(tiles, parts, (100, 150))
    assert merged.boxes.tolist() == whole.tolist()
    assert merged.scores == pytest.approx([0.6])


def test_better_of_two_whole_instances_is_kept_per_class():
    tiles = grid((100, 150), (100, 100), (50, 50))
    boxes = np.float32([[60, 20, 90, 60], [61, 21, 91, 59]])
    parts = [Instances(box[None], np.float32([score]), np.array([0]))
             for box, score in zip(boxes, (0.6, 0.9), strict=True)]
    assert merge(tiles, parts, (100, 150)).boxes.tolist() == boxes[1:].tolist()
    parts[1] = Instances(boxes[1:], np.float32([0.9]), np.array([1]))
    assert len(merge(tiles, parts, (100, 150))) == 2


def test_instances_of_one_tile_are_never_merged():
    """The model itself kept them apart."""
    tiles = grid((100, 150), (100, 100), (50, 50))
    twice = Instances(np.float32([[10, 10, 40, 40]] * 2), np.float32([0.9, 0.8]), np.array([0, 0]))
    nothing = twice.select(np.array([], int))
    assert len(merge(tiles, [twice, nothing], (100, 150))) == 2
    assert len(merge(tiles, [nothing, nothing], (100, 150))) == 0


def test_rough_piece_of_an_object_is_suppressed_by_the_whole_one():
    """The second tile begins at 50; of what it sees of the object, it finds less than half."""
    tiles = grid((100, 150), (100, 100), (50, 50))
    whole, piece = np.float32([[40, 20, 70, 60]]), np.float32([[50, 20, 58, 60]])
    parts = [Instances(box, np.float32([score]), np.array([0])) for box, score in ((whole, 0.6), (piece, 0.9))]
    assert merge(tiles, parts, (100, 150)).boxes.tolist() == whole.tolist()


WHOLE_IN_BOTH = [[400, 100, 502, 200], [416, 100, 700, 200]]   # each within its own tile, and across its border
CUT_BESIDE_WHOLE = [[300, 100, 512, 200], [417, 100, 600, 200]]


@pytest.mark.parametrize('boxes', [WHOLE_IN_BOTH, CUT_BESIDE_WHOLE])
def test_neighbors_with_similar_boxes_in_the_overlap_stay_two(boxes: list):
    tiles = square_grid((512, 922), 512, 0.2)
    assert [tile.left for tile in tiles] == [0, 410]
    parts = [Instances(np.float32([box]), np.float32([score]), np.array([0]), None)
             for box, score in zip(boxes, (0.9, 0.8), strict=True)]
    assert sorted(merge(tiles, parts, (512, 922)).boxes.tolist()) == boxes
