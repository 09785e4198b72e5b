"""Segmentations in COCO's format: polygons and run-length encodings (RLE)."""
from typing import Any

import numpy as np


def mask_fault(segmentation: Any, width: float, height: float) -> str:
    """Returns the fault of a segmentation of an image of `width` x `height` pixels; '' if it has none.

    The faults follow the behavior of mmdet's `LoadAnnotations`: 'missing'; 'partial', if it drops some polygons;
    'broken', if it drops all polygons and ignores the box; 'misfit', if it raises an error.
    """
    if not segmentation:
        return 'missing'
    if isinstance(segmentation, list):
        if not all(_is_polygon(polygon) for polygon in segmentation):
            return 'misfit'
        complete = [is_complete(polygon) for polygon in segmentation]
        return '' if all(complete) else 'partial' if any(complete) else 'broken'
    if not isinstance(segmentation, dict):
        return 'misfit'
    counts, size = segmentation.get('counts'), segmentation.get('size')
    if not isinstance(counts, (list, str)) or size is None:
        return 'broken'
    return '' if size == [height, width] and _covers(counts, size[0] * size[1]) else 'misfit'


def is_complete(polygon: list[float]) -> bool:
    """True if a polygon x, y, x, y, ... has at least three points."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def is_finite(value: object) -> bool:
    """True if a value of a JSON file is a number in the range of float32 and pycocotools, not NaN or infinity."""
    return isinstance(value, (int, float)) and abs(value) < 1e12


def decompress(text: str) -> list[int]:
    """Returns the run lengths of COCO's compressed RLE; empty if the text is not valid.

    pycocotools cannot be used, because it decodes any text and may read beyond its end. Each character stores five bits
    of a number, the lowest bits first, and a sixth bit that is set if more characters of the number follow. Beginning
    with the fourth number, the difference to the run length two positions before is stored (cocoapi,
    common/maskApi.c).
    """
    codes = np.frombuffer(text.encode('latin1', 'replace'), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or not len(ends) or ends[-1] != len(codes) - 1:
        return []
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    if places.max() > 11:  # more than 60 bits, which int64 cannot hold
        return []
    numbers = np.add.reduceat((codes & 31) << 5 * places, starts)
    numbers -= np.where(codes[ends] & 16, 1 << 5 * (places[ends] + 1), 0)  # the sign bit
    lengths = numbers.tolist()
    for i in range(3, len(lengths)):
        lengths[i] += lengths[i - 2]
    return lengths


def _is_polygon(value: object) -> bool:
    """True if a value is a list of finite numbers.

    COCO has 30 million of these numbers. Therefore `map` and `sum` are used, which are faster than a loop.
    """
    return isinstance(value, list) and set(map(type, value)) <= {int, float} and is_finite(sum(value))


def _covers(counts: list | str, num_pixels: float) -> bool:
    """True if the run lengths of a mask, plain or compressed, are valid and add up to all pixels of the image."""
    lengths = decompress(counts) if isinstance(counts, str) else counts
    return bool(lengths) and set(map(type, lengths)) == {int} and min(lengths) >= 0 and sum(lengths) == num_pixels
