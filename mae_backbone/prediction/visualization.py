"""Predictions drawn on images: boxes, masks and names of objects, or the colors of classes."""
from collections.abc import Sequence

import cv2
import numpy as np

from mae_backbone.prediction.instances import CroppedRLE, Objects
from mae_backbone.utils.palette import palette

SMALLEST = 480  # ours: pixels near which the shorter side of a picture comes, where the image is smaller
LARGEST = 4096  # ours: pixels up to which the longer side of a picture is enlarged
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_objects(image: np.ndarray, objects: Objects, names: Sequence[str], colors: Sequence[tuple[int, int, int]], *,
                 with_scores: bool = True) -> np.ndarray:
    """image (H, W, 3) uint8 RGB -> picture (scale * H, scale * W, 3) with boxes, masks, and names where they fit.

    Args:
        image: the objects are in its pixels.
        objects: what is drawn, the first ones last.
        names: of the classes. That of a single one is not repeated at each object.
        colors: (red, green, blue) of the classes. Objects of a single class are told apart by colors of their own.
        with_scores: after the names.
    """
    scale = picture_scale(image)
    picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    sides = scale * (objects.boxes[:, 2:] - objects.boxes[:, :2]).min(1, initial=np.inf)
    # Lines can be seen in the whole picture, and leave small objects to be seen.
    thick = [max(1, round(min(min(picture.shape[:2]) / 600, side / 20))) for side in sides.tolist()]
    own = palette(len(objects)) if len(names) < 2 else [colors[label] for label in objects.labels]
    for i in range(len(objects) - 1, -1, -1):
        if objects.masks is not None:
            _fill(picture, objects.masks[i], scale, own[i], thick[i])
    for i in range(len(objects) - 1, -1, -1):
        x1, y1, x2, y2 = (round(float(side) * scale) for side in objects.boxes[i])
        cv2.rectangle(picture, (x1, y1), (x2, y2), own[i], thick[i])
        words = [names[objects.labels[i]]] * (len(names) > 1) + [f'{objects.scores[i]:.0%}'] * with_scores
        if words:
            _write(picture, ' '.join(words), x1, y1, x2 - x1, own[i])
    return picture


def draw_labels(image: np.ndarray, labels: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """image (H, W, 3) uint8 RGB, labels (H, W) -> picture (scale * H, scale * W, 3), half image and half colors.

    Pixels of labels without a color (255: to be ignored) show the image.
    """
    scale = picture_scale(image)
    table = np.array(colors, np.uint8)
    picture = np.empty_like(image)
    for top in range(0, len(image), 256):  # rows, as half a gigabyte would be copied of a large image
        rows = slice(top, top + 256)
        shown = labels[rows] < len(colors)
        mixed = cv2.addWeighted(image[rows], 0.5, table[np.where(shown, labels[rows], 0)], 0.5, 0)
        picture[rows] = np.where(shown[..., None], mixed, image[rows])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def picture_scale(image: np.ndarray) -> int:
    """How many times as large as the image its picture is."""
    short, long = sorted(image.shape[:2])
    return max(1, min(round(SMALLEST / short), LARGEST // long))


def _fill(picture: np.ndarray, mask: CroppedRLE, scale: int, color: tuple[int, int, int], thick: int) -> None:
    """Colors a mask half-transparent, and its outline."""
    pixels = cv2.resize(mask.pixels().astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    top, left = scale * mask.top, scale * mask.left
    place = picture[top:top + pixels.shape[0], left:left + pixels.shape[1]]
    inside = pixels.astype(bool)
    place[inside] = place[inside] // 2 + np.array(color, np.uint8) // 2
    outlines, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    cv2.drawContours(picture, outlines, -1, color, thick)


def _write(picture: np.ndarray, text: str, x: int, y: int, room: int, color: tuple[int, int, int]) -> None:
    """A name on its color at the upper left corner of a box, unless it is much longer than the box is wide."""
    size = max(0.4, min(picture.shape[:2]) / 1500)
    (width, height), base = cv2.getTextSize(text, _FONT, size, 1)
    if width > 1.5 * room:
        return
    x, y = min(max(x, 0), max(picture.shape[1] - width, 0)), max(y, height + base)
    cv2.rectangle(picture, (x, y - height - base), (x + width, y), color, cv2.FILLED)
    bright = sum(part * share for part, share in zip(color, (0.3, 0.6, 0.1), strict=True)) > 128
    cv2.putText(picture, text, (x, y - base // 2 - 1), _FONT, size, (0, 0, 0) if bright else (255, 255, 255),
                max(1, round(size)), cv2.LINE_AA)
