"""Predictions as the page shows them: a figure, a legend and files, all for a threshold that can still change."""
import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco_rle

from mae_backbone.prediction.inputs import Source
from mae_backbone.prediction.onnx.predictor import OnnxSegmenterPredictor
from mae_backbone.prediction.predicting import PredictsImages
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.prediction.results import save_labels
from mae_backbone.prediction.typed_results import ClassificationResult, DetectionResult, Result, to_result
from mae_backbone.prediction.visualization import draw_labels
from mae_backbone.utils.atomic_write import atomic_path, write_text
from mae_backbone.utils.image_grid import to_height

LOWEST_SCORE = 0.05  # of detections that are kept for the slider; mmdet's own limit (score_thr) in its configs
MAX_CLASSES = 12     # of a legend; the others are counted in its last line
_LEAST_HEIGHT = 192  # pixels of the figure of a small image
_GREATEST_WIDTH = 1600  # pixels of the same, as `page.MAX_FIGURE`
_FORMULA = ('=', '+', '-', '@', '\t', '\r')  # first characters of a cell that a spreadsheet runs

Color = tuple[int, int, int]


class Row(NamedTuple):
    """A line of a legend.

    Attributes:
        name: of the class.
        value: what is written next to it.
        fraction: length of its bar, in [0, 1].
        color: (red, green, blue); None for no color.
    """

    name: str
    value: str
    fraction: float
    color: Color | None


class Shown(NamedTuple):
    """Parts of an answer for the page.

    Attributes:
        figure: (H', W', 3) uint8 RGB.
        summary: a short sentence.
        rows: of the legend.
    """

    figure: np.ndarray
    summary: str
    rows: list[Row]


class Answer(ABC):
    """The prediction of a model for an image, kept so that a threshold can change without another prediction.

    Args:
        picture: (H, W, 3) uint8 RGB, the image as it is shown.
        name: of its file, for the downloads.

    Attributes:
        THRESHOLD: name, default and lowest value of the threshold.
    """

    THRESHOLD: tuple[str, float, float]

    def __init__(self, picture: np.ndarray, name: str) -> None:
        self.picture, self.name = picture, name

    @abstractmethod
    def show(self, threshold: float) -> Shown:
        """Returns what the page shows for a threshold."""

    @abstractmethod
    def write(self, folder: Path, threshold: float) -> list[Path]:
        """Writes the files to download into a folder that exists; returns their paths."""


class DetectionAnswer(Answer):
    """Objects in an image."""

    THRESHOLD = 'Lowest score of an object', 0.3, LOWEST_SCORE

    def __init__(self, picture: np.ndarray, name: str, result: DetectionResult, class_ids: Sequence[int | str]
                 ) -> None:
        super().__init__(picture, name)
        self.result, self.class_ids = result, class_ids

    def show(self, threshold: float) -> Shown:
        """Boxes, masks and the number of objects of each class."""
        result = self.result.filter(threshold)
        counts = np.bincount(result.labels, minlength=len(result.classes))
        rows = [Row(result.classes[i], f'{counts[i]:,}', counts[i] / counts.max(), result.colors[i])
                for i in np.argsort(-counts, kind='stable') if counts[i]]
        if len(result.classes) == 1:  # each object has another color
            rows = [row._replace(color=None) for row in rows]
        hidden = len(self.result) - len(result)
        summary = f'{len(result):,} object{"s" * (len(result) != 1)}'
        summary += f', {hidden:,} below the threshold' * bool(hidden)
        return Shown(result.draw(self.picture), summary, shortened(rows))

    def write(self, folder: Path, threshold: float) -> list[Path]:
        """`predictions.json`, a COCO data set with scores and the ids of the training, and `predictions.csv`."""
        result = self.result.filter(threshold)
        height, width = result.size
        entries = []
        for number, entry in enumerate(result.to_coco(category_ids=self.class_ids), 1):
            _, _, w, h = entry['bbox']
            masks = result.instances.masks
            area = w * h if masks is None else float(coco_rle.area(masks[number - 1].rle))
            entries.append({'id': number, 'segmentation': [], **entry, 'area': area, 'iscrowd': 0})
        content = {'images': [{'id': 1, 'file_name': self.name, 'width': width, 'height': height}],
                   'categories': [{'id': i, 'name': name}
                                  for i, name in zip(self.class_ids, result.classes, strict=True)],
                   'annotations': entries}
        table = [[name, f'{score:.5f}', *(f'{value:.2f}' for value in box)]
                 for name, score, box in zip(result.names, result.scores, result.boxes, strict=True)]
        write_text(folder / 'predictions.json', json.dumps(content))
        write_text(folder / 'predictions.csv', to_csv(['class', 'score', 'x1', 'y1', 'x2', 'y2'], table))
        return [folder / 'predictions.json', folder / 'predictions.csv']


class SegmentationAnswer(Answer):
    """Class of each pixel."""

    THRESHOLD = 'Lowest probability of a pixel', 0.0, 0.0

    def __init__(self, picture: np.ndarray, name: str, result: Result, confidence: np.ndarray | None) -> None:
        super().__init__(picture, name)
        self.result, self.confidence = result, confidence

    def labels(self, threshold: float) -> np.ndarray:
        """Labels (H, W); the largest number of their type, 255 or 65535, if the probability is below the threshold."""
        labels = self.result.prediction
        if self.confidence is None or threshold <= 0:
            return labels
        return np.where(self.confidence >= threshold, labels, np.iinfo(labels.dtype).max).astype(labels.dtype)

    def fractions(self, labels: np.ndarray) -> np.ndarray:
        """labels (H, W) -> the fraction of the image that each class covers, (num_classes,)."""
        number = len(self.result.classes)
        return np.bincount(labels.ravel(), minlength=number)[:number] / labels.size

    def show(self, threshold: float) -> Shown:
        """Colors over the image, and the fraction of each class."""
        labels, result = self.labels(threshold), self.result
        figure = draw_labels(self.picture, labels, result.colors)  # the page has its own legend
        fractions = self.fractions(labels)
        rows = [Row(result.classes[i], f'{fractions[i]:.1%}', fractions[i], result.colors[i])
                for i in np.argsort(-fractions, kind='stable') if fractions[i]]
        summary = f'{len(rows)} class{"es" * (len(rows) != 1)}'
        if self.confidence is None:
            summary += '; the probabilities of this image take too much memory, or the model has none: no threshold'
        elif (unsure := 1 - fractions.sum()) > 1e-9:
            summary += f', {unsure:.1%} of the image below the threshold'
        return Shown(figure, summary, shortened(rows))

    def write(self, folder: Path, threshold: float) -> list[Path]:
        """`labels.png`, the label of each pixel in the color of its class, and `areas.csv`."""
        labels, classes = self.labels(threshold), self.result.classes
        with atomic_path(folder / 'labels.png', keep_suffix=True) as path:
            save_labels(path, labels, self.result.colors)
        table = [[i, name, round(fraction * labels.size), f'{fraction:.6f}']
                 for i, (name, fraction) in enumerate(zip(classes, self.fractions(labels), strict=True))]
        write_text(folder / 'areas.csv', to_csv(['label', 'class', 'pixels', 'fraction'], table))
        return [folder / 'labels.png', folder / 'areas.csv']


class ClassificationAnswer(Answer):
    """Class of an image."""

    THRESHOLD = 'Lowest probability of a class', 0.01, 0.0

    def __init__(self, picture: np.ndarray, name: str, result: Result) -> None:
        super().__init__(picture, name)
        self.result = result

    def show(self, threshold: float) -> Shown:
        """The image, and the probabilities of the classes. Nothing in the image has the colors of classes."""
        scores, result = self.result.prediction, self.result
        best = np.argsort(-scores, kind='stable')
        rows = [Row(result.classes[i], f'{scores[i]:.1%}', float(scores[i]), None)
                for i in best if scores[i] >= threshold]
        figure = self.picture if len(self.picture) >= _LEAST_HEIGHT else to_height(
            self.picture, _LEAST_HEIGHT, widest=_GREATEST_WIDTH)
        return Shown(figure, result.describe(), shortened(rows))

    def write(self, folder: Path, threshold: float) -> list[Path]:
        """`scores.csv`, with all classes."""
        scores = self.result.prediction
        table = [[self.result.classes[i], f'{scores[i]:.6f}'] for i in np.argsort(-scores, kind='stable')]
        write_text(folder / 'scores.csv', to_csv(['class', 'probability'], table))
        return [folder / 'scores.csv']


ANSWERS: dict[str, type[Answer]] = {'detection': DetectionAnswer, 'segmentation': SegmentationAnswer,
                                    'classification': ClassificationAnswer}


def answer(model: PredictsImages, pixels: np.ndarray, picture: np.ndarray, name: str) -> Answer:
    """Predicts an image.

    Args:
        model: a detector, segmenter or classifier, in PyTorch or exported.
        pixels: as the model takes them.
        picture: (H, W, 3) uint8 RGB, as they are shown.
        name: of the file.
    """
    if model.task == 'segmentation':
        assert isinstance(model.predictor, (Predictor, OnnxSegmenterPredictor))
        labels, confidence = model.predictor.labels_and_confidence(pixels)
        source = Source(pixels)
        return SegmentationAnswer(picture, name, to_result(
            labels, model.task, source, (pixels.shape[0], pixels.shape[1]), model.classes, model.colors), confidence)
    result = model.predict(pixels, threshold=LOWEST_SCORE)
    if isinstance(result, DetectionResult):
        return DetectionAnswer(picture, name, result, model.class_ids)
    assert isinstance(result, ClassificationResult)
    return ClassificationAnswer(picture, name, result)


def shortened(rows: list[Row]) -> list[Row]:
    """At most MAX_CLASSES rows; the last one says how many are left out."""
    if len(rows) <= MAX_CLASSES:
        return rows
    return [*rows[:MAX_CLASSES - 1], Row(f'{len(rows) - MAX_CLASSES + 1} more classes', '', 0.0, None)]


def to_csv(header: list[str], rows: list[list]) -> str:
    """A table as text. Names that a spreadsheet would read as a formula get a quotation mark in front."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(header)
    writer.writerows([f"'{cell}" if isinstance(cell, str) and cell[:1] in _FORMULA and not _is_number(cell)
                      else cell for cell in row] for row in rows)
    return text.getvalue()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
