"""Finds contradictions in an annotation file: boxes that do not fit masks or areas, and objects listed twice."""
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pycocotools import mask as coco_rle

from mae_backbone.formats.coco_masks import is_complete
from mae_backbone.formats.coco_objects import Id
from mae_backbone.formats.messages import first_few

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2
# Our choices. A box and a mask that are drawn by hand differ by a few pixels. If their IoU is below this, one of the
# two is wrong.
_MIN_IOU = 0.5
# The file as a whole is wrong if at least this fraction and this number of its objects have a contradiction.
_MANY = 0.25
_AT_LEAST = 3
_AREA_SLACK = 1.2  # an area is too large if it is above this multiple of the area of the box plus 16 pixels

# Causes of a mask that does not fit its box: description and advice.
_BOX_CAUSES = {
    'corners': ('bbox seems to be x1, y1, x2, y2', 'write x, y, width, height'),
    'centers': ('bbox seems to be the center and the size', 'write x, y of the upper left corner, width, height'),
}
_MASK_CAUSES = {
    'relative mask': ('segmentation seems to be relative to the size of the image',
                      'multiply by the width and height in pixels'),
    'swapped mask': ('segmentation seems to be y, x, y, x, ...', 'write x, y, x, y, ...'),
    'shifted mask': ('segmentation has the size of the box at another place', 'remove the offset of one of both'),
    'unknown': ('the cause is not obvious', 'draw some (`mae-backbone check`) and correct one of both'),
}


class Contradiction(NamedTuple):
    """A kind of contradiction, and the annotations that have it.

    Attributes:
        text: description that continues a sentence about these annotations, such as 'have ...'.
        ids: ids of the annotations.
        advice: likely cause and how to correct it.
        is_systematic: True if so many annotations have it that the file as a whole is wrong.
        concerns_boxes: True if boxes or the number of objects are wrong, False if only masks are wrong.
    """
    text: str
    ids: list[Id]
    advice: str
    is_systematic: bool
    concerns_boxes: bool

    def __str__(self) -> str:
        return f'{self.text} (id {first_few(self.ids)})'


@dataclass
class Consistency:
    """Collects the contradictions of an annotation file, one annotation at a time."""

    num_boxes: int = 0
    num_masks: int = 0
    misfits: dict[str, list[Id]] = field(default_factory=dict)  # by cause
    large_areas: list[Id] = field(default_factory=list)
    repeated: list[Id] = field(default_factory=list)
    out_of_bounds: list[Id] = field(default_factory=list)
    num_possible_corners: int = 0
    num_relative: int = 0  # boxes with all numbers in 0..1
    _seen: set[int] = field(default_factory=set)

    def add(self, annotation: dict, width: float, height: float, *, has_mask: bool) -> None:
        """Compares the fields of an annotation of an image of `width` x `height` pixels.

        Args:
            annotation: an entry of a COCO file; not a crowd.
            width: width of its image.
            height: height of its image.
            has_mask: whether its segmentation is a valid mask of the image.
        """
        x, y, box_width, box_height = annotation['bbox']
        number = annotation['id']
        self.num_boxes += 1
        key = hash((annotation['image_id'], annotation['category_id'], x, y, box_width, box_height))
        if key in self._seen:
            self.repeated.append(number)
        self._seen.add(key)
        if annotation['area'] > _AREA_SLACK * box_width * box_height + 16:
            self.large_areas.append(number)
        if x + box_width > width + 1 or y + box_height > height + 1:
            self.out_of_bounds.append(number)
        self.num_possible_corners += x < box_width <= width and y < box_height <= height
        if has_mask and (bounds := _mask_bounds(annotation['segmentation'])):
            self.num_masks += 1
            if _iou((x, y, x + box_width, y + box_height), bounds) < _MIN_IOU:
                cause = _cause((x, y, box_width, box_height), bounds, width, height)
                self.misfits.setdefault(cause, []).append(number)

    def close(self) -> None:
        """Frees memory that is needed only by `add`."""
        self._seen = set()

    def contradictions(self) -> list[Contradiction]:
        """Returns the kinds of contradictions in the file."""
        result = []
        if self.misfits:
            ids = [number for numbers in self.misfits.values() for number in numbers]
            cause = Counter({cause: len(numbers) for cause, numbers in self.misfits.items()}).most_common(1)[0][0]
            advice = ': '.join((_BOX_CAUSES | _MASK_CAUSES)[cause])
            result.append(Contradiction('have a segmentation that does not fit their bbox', ids, advice,
                                        _is_systematic(ids, self.num_masks), cause in _BOX_CAUSES))
        elif self.num_possible_corners == self.num_boxes and _is_systematic(self.out_of_bounds, self.num_boxes):
            result.append(Contradiction('have a box beyond their image, while all boxes would be valid as corners',
                                        self.out_of_bounds, ': '.join(_BOX_CAUSES['corners']), True, True))
        if self.large_areas:
            result.append(Contradiction(
                'have an area that is larger than their box', self.large_areas,
                'area is the number of pixels of the mask, or width * height of the box: compute it again',
                _is_systematic(self.large_areas, self.num_boxes), True))
        if self.repeated:
            result.append(Contradiction(
                'have the same image, category and bbox as another one', self.repeated,
                'the file seems to list objects twice, as after joining two exports: remove the copies',
                _is_systematic(self.repeated, self.num_boxes), True))
        return result


def _is_systematic(ids: list[Id], total: int) -> bool:
    return len(ids) >= max(_AT_LEAST, _MANY * total)


def _mask_bounds(segmentation: Any) -> Corners | None:
    """Returns the corners of the smallest box around a valid mask; None if it has no pixel."""
    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if is_complete(polygon)]
        xs, ys = [polygon[::2] for polygon in polygons], [polygon[1::2] for polygon in polygons]
        return (min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys))) if polygons else None
    height, width = segmentation['size']
    is_plain = isinstance(segmentation['counts'], list)
    rle = coco_rle.frPyObjects(segmentation, height, width) if is_plain else segmentation
    x, y, box_width, box_height = coco_rle.toBbox(rle).tolist()
    return (x, y, x + box_width, y + box_height) if box_width and box_height else None


def _iou(first: Corners, second: Corners) -> float:
    """Returns the intersection over union of two boxes after extending both by a pixel on each side.

    Without the extension, the result for objects of a few pixels would depend on rounding.
    """
    width, height = (max(0.0, min(first[i + 2], second[i + 2]) - max(first[i], second[i]) + 2) for i in (0, 1))
    areas = [max(0.0, box[2] - box[0] + 2) * max(0.0, box[3] - box[1] + 2) for box in (first, second)]
    return width * height / max(1.0, sum(areas) - width * height)


def _cause(box: Corners, bounds: Corners, width: float, height: float) -> str:
    """Returns the likely cause of a mask that does not fit its box (x, y, width, height)."""
    x, y, w, h = box
    corners = (x, y, x + w, y + h)
    x1, y1, x2, y2 = bounds
    candidates: dict[str, tuple[Corners, Corners]] = {
        'relative mask': (corners, (x1 * width, y1 * height, x2 * width, y2 * height)),
        'swapped mask': (corners, (y1, x1, y2, x2)),
        'corners': ((x, y, w, h), bounds),
        'centers': ((x - w / 2, y - h / 2, x + w / 2, y + h / 2), bounds),
        'shifted mask': (corners, (x, y, x + x2 - x1, y + y2 - y1)),
    }
    scores = {cause: _iou(*pair) for cause, pair in candidates.items()}
    best = max(scores, key=lambda cause: scores[cause])
    return best if scores[best] > 0.8 else 'unknown'
