"""Draws predictions on images: boxes, masks and class names of instances, or colors of label maps."""
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.utils.image_grid import add_legend, title_bar, to_height
from mae_backbone.utils.palette import Color, palette
from mae_backbone.utils.picture_text import label_size, text_size, write_label

MIN_SIDE = 480   # our choice: short side in pixels to which small images are enlarged
MAX_SIDE = 4096  # our choice: largest long side in pixels of enlarged images
_MAX_FIXED = 40  # our choice: largest number of classes in the legend of a video

Legend = Literal['present', 'fixed', 'none']


def describe(prediction: Instances | np.ndarray, classes: Sequence[str]) -> str:
    """Summarizes instances, labels (H, W) or scores (num_classes,) in a few words."""
    if isinstance(prediction, Instances):
        counts = np.bincount(prediction.labels, minlength=len(classes))
        return ', '.join(f'{count} {name}' for count, name in zip(counts, classes, strict=True) if count) or 'nothing'
    if prediction.ndim == 1:
        return f'{classes[int(prediction.argmax())]} {float(prediction.max()):.0%}'
    fractions = np.bincount(prediction.ravel(), minlength=len(classes))[:len(classes)] / prediction.size
    return ', '.join(f'{classes[i]} {fractions[i]:.0%}' for i in np.argsort(-fractions)[:5] if fractions[i])


def draw_prediction(image: np.ndarray, prediction: Instances | np.ndarray, classes: Sequence[str],
                    colors: Sequence[Color], *, legend: Legend = 'present') -> np.ndarray:
    """Draws instances, labels (H, W) or scores (num_classes,) on their image (H, W, 3) -> figure (H', W', 3).

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: prediction for the image.
        classes: names of the classes.
        colors: colors of the classes.
        legend: legend with names of classes and colors below a label map. 'present': classes in the image, largest
            first. 'fixed': all classes, so that all frames of a video have the same size; no legend for more than 40
            classes. 'none': no legend.
    """
    if isinstance(prediction, Instances):
        return draw_instances(image, prediction, classes, colors)
    if prediction.ndim == 1:
        return add_title(image, describe(prediction, classes))
    figure = draw_labels(image, prediction, colors)
    shown = {'present': present_classes(prediction, len(classes)), 'none': [],
             'fixed': list(range(len(classes))) if len(classes) <= _MAX_FIXED else []}[legend]
    return add_legend(figure, [classes[i] for i in shown], [colors[i] for i in shown])


def present_classes(labels: np.ndarray, num_classes: int) -> list[int]:
    """Returns the classes that labels (H, W) contain, in the order of their area, largest first."""
    pixels = np.bincount(labels.ravel(), minlength=num_classes)[:num_classes]
    return [int(label) for label in np.argsort(-pixels, kind='stable') if pixels[label]]


def add_title(image: np.ndarray, title: str) -> np.ndarray:
    """Enlarges a small image (H, W, 3), and writes a title above it."""
    figure = to_height(image, max(192, image.shape[0]))
    return np.concatenate([title_bar(title, figure.shape[1]), figure])


def draw_instances(image: np.ndarray, instances: Instances, names: Sequence[str], colors: Sequence[Color], *,
                   with_scores: bool = True) -> np.ndarray:
    """Draws boxes and masks, and the names of the classes if the boxes are large enough.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: instances in pixels of the image. The first instance is drawn on top.
        names: names of the classes. If there is only one class, its name is not drawn.
        colors: colors of the classes. If there is only one class, each instance gets another color.
        with_scores: draw the scores after the names.

    Returns:
        Figure (scale * H, scale * W, 3), see `figure_scale`.
    """
    scale = figure_scale(image)
    figure = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    sides = scale * (instances.boxes[:, 2:] - instances.boxes[:, :2]).min(1, initial=np.inf)
    # Lines are thick enough to be visible in a large figure, but thin enough not to cover small instances.
    thickness = [max(1, round(min(min(figure.shape[:2]) / 600, side / 20))) for side in sides.tolist()]
    color = palette(len(instances)) if len(names) < 2 else [colors[label] for label in instances.labels]
    for i in range(len(instances) - 1, -1, -1):
        if instances.masks is not None:
            _fill(figure, instances.masks[i], scale, color[i], thickness[i])
    for i in range(len(instances) - 1, -1, -1):
        x1, y1, x2, y2 = (round(float(side) * scale) for side in instances.boxes[i])
        cv2.rectangle(figure, (x1, y1), (x2, y2), color[i], thickness[i])
        words = [names[instances.labels[i]]] * (len(names) > 1) + [f'{instances.scores[i]:.0%}'] * with_scores
        text, size = ' '.join(words), label_size(figure)
        if words and text_size(text, size)[0] <= 1.5 * (x2 - x1):
            write_label(figure, text, x1, y1, size, color[i])
    return figure


def draw_labels(image: np.ndarray, labels: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Blends an image (H, W, 3) uint8 RGB with the colors of its labels (H, W) -> figure (scale * H, scale * W, 3).

    Pixels whose label has no color, such as 255 (ignored), show the image.
    """
    scale = figure_scale(image)
    table = np.array(colors, np.uint8)
    figure = np.empty_like(image)
    for top in range(0, len(image), 256):  # in parts, because copies of a large image need half a gigabyte
        rows = slice(top, top + 256)
        colored = labels[rows] < len(colors)
        mixed = cv2.addWeighted(image[rows], 0.5, table[np.where(colored, labels[rows], 0)], 0.5, 0)
        figure[rows] = np.where(colored[..., None], mixed, image[rows])
    return cv2.resize(figure, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)


def figure_scale(image: np.ndarray) -> int:
    """Returns the factor by which an image (H, W, 3) is enlarged in its figure."""
    short, long = sorted(image.shape[:2])
    return max(1, min(round(MIN_SIDE / short), MAX_SIDE // long))


def _fill(figure: np.ndarray, mask: CroppedRLE, scale: int, color: Color, thickness: int) -> None:
    """Colors a mask half-transparently, and draws its outline."""
    pixels = cv2.resize(mask.to_mask().astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    top, left = scale * mask.top, scale * mask.left
    region = figure[top:top + pixels.shape[0], left:left + pixels.shape[1]]
    inside = pixels.astype(bool)
    region[inside] = region[inside] // 2 + np.array(color, np.uint8) // 2
    outlines, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    cv2.drawContours(figure, outlines, -1, color, thickness)
