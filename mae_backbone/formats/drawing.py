"""Draws labels on images: boxes and masks, label maps, class names."""
from collections.abc import Sequence

import cv2
import numpy as np
from pycocotools import mask as coco_rle

from mae_backbone.formats.coco_masks import mask_fault
from mae_backbone.utils.image_grid import title_bar, to_height
from mae_backbone.utils.palette import Color
from mae_backbone.utils.picture_text import BLACK, WHITE, text_size, write_label, write_text

_CROWD_COLOR = (255, 255, 255)
_MIN_NAMED_FRACTION = 0.01  # smallest fraction of the pixels that a class must cover for its name to be drawn


def draw_objects(image: np.ndarray, annotations: Sequence[dict], names: dict[int | str, str],
                 colors: dict[int | str, Color]) -> np.ndarray:
    """Draws boxes, outlines of masks and class names; crowds are white.

    Names much wider than their box are omitted, except for the first object of each class.

    Args:
        image: (H, W, 3) uint8 RGB.
        annotations: entries of a COCO file.
        names: class name of each category id.
        colors: color of each category id.
    """
    picture, thickness = image.copy(), max(1, min(image.shape[:2]) // 200)
    boxes = [_to_points([x, y, x + width, y + height], picture).tolist()
             for x, y, width, height in (annotation['bbox'] for annotation in annotations)]
    box_colors = [_CROWD_COLOR if annotation.get('iscrowd') else colors[annotation['category_id']]
                  for annotation in annotations]
    size, named = _font_size(picture), set()
    for annotation, ((left, top), (right, _)), color in zip(annotations, boxes, box_colors, strict=True):
        category, name = annotation['category_id'], str(names[annotation['category_id']])
        if category not in named or text_size(name, size)[0] <= 1.5 * (right - left):
            write_label(picture, name, left, top, size, color)
            named.add(category)
    # Names must not hide boxes.
    for annotation, (upper_left, lower_right), color in zip(annotations, boxes, box_colors, strict=True):
        cv2.rectangle(picture, upper_left, lower_right, color, thickness)
        cv2.polylines(picture, mask_outlines(annotation.get('segmentation'), picture), True, color, thickness)
    return picture


def mask_outlines(segmentation: object, picture: np.ndarray) -> list[np.ndarray]:
    """Returns the outlines of a segmentation, each (N, 2) int32; none if it is not a valid mask of the picture."""
    height, width = picture.shape[:2]
    if mask_fault(segmentation, width, height) not in ('', 'partial'):
        return []
    if isinstance(segmentation, list):
        return [_to_points(polygon, picture) for polygon in segmentation
                if len(polygon) >= 6 and len(polygon) % 2 == 0]
    rle = coco_rle.frPyObjects(segmentation, height, width) if _has_plain_counts(segmentation) else segmentation
    outlines, _ = cv2.findContours(coco_rle.decode(rle), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return [outline[:, 0] for outline in outlines]


def draw_label_map(image: np.ndarray, labels: np.ndarray, names: dict[int, str], colors: np.ndarray) -> np.ndarray:
    """Blends the colors of the labels into the image, and writes the names of classes that cover 1 % of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8.
        names: class name of each label.
        colors: (256, 3) uint8, color of each label.
    """
    picture = (image // 2 + colors[labels] // 2).astype(np.uint8)
    for label, name in names.items():
        region = labels == label
        if region.mean() >= _MIN_NAMED_FRACTION:
            _write_inside(picture, region, name)
    return picture


def draw_class_name(image: np.ndarray, name: str) -> np.ndarray:
    """Writes the class name above an image (H, W, 3)."""
    picture = to_height(image, max(96, image.shape[0]))
    return np.concatenate([title_bar(name, picture.shape[1]), picture])


def _font_size(picture: np.ndarray) -> int:
    """Returns a font size that is legible, also after reducing the picture to a height of 256 pixels."""
    return max(8, picture.shape[0] // 21)


def _has_plain_counts(segmentation: object) -> bool:
    return isinstance(segmentation, dict) and isinstance(segmentation['counts'], list)


def _to_points(numbers: Sequence[float], picture: np.ndarray) -> np.ndarray:
    """Converts x, y, x, y, ... to (N, 2) int32, clipped to the range that OpenCV can draw."""
    height, width = picture.shape[:2]
    points = np.array(numbers, np.float64).reshape(-1, 2)
    return points.clip(-width - height, 2 * (width + height)).round().astype(np.int32)


def _write_inside(picture: np.ndarray, region: np.ndarray, name: str) -> None:
    """Writes a name around the point of a region (H, W) bool that is farthest from its edges."""
    # With the padding, the border of the image counts as an edge.
    distances = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 3)
    _, _, _, (x, y) = cv2.minMaxLoc(distances[1:-1, 1:-1])
    size = _font_size(picture)
    width, height = text_size(name, size)
    left, top = max(0, min(x - width // 2, picture.shape[1] - width)), y - height // 2
    write_text(picture, name, left, top, size, WHITE, outline=BLACK)
