"""Base class of predictors: task, classes, and a prediction for each image."""
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.data.reading import Reading, shown
from mae_backbone.prediction.instances import Instances
from mae_backbone.prediction.visualization import Legend, describe, draw_prediction

# Instances of a detector, labels (H, W) of a segmenter, or scores (num_classes,) of a classifier.
Prediction = Instances | np.ndarray
Self = TypeVar('Self', bound='BasePredictor')


class SmallImageError(CheckpointError):
    """An image is smaller than the smallest one that an exported file takes. Other images can be predicted."""


class BasePredictor(ABC):
    """Detector, segmenter or classifier with its weights, for images of any size.

    Attributes:
        task: 'detection', 'segmentation' or 'classification'.
        classes: names of the classes.
        colors: (red, green, blue) of each class.
        class_ids: id of each class in the training annotations if the checkpoint states it, otherwise the label.
        decoding: decoding of the training images. Decode your images in the same way.
    """

    task: str
    classes: tuple[str, ...]
    colors: list[tuple[int, int, int]]
    class_ids: list[int | str]
    decoding: Reading

    @abstractmethod
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """images (H, W, 3) uint8 RGB of any sizes -> a prediction for each image."""

    @abstractmethod
    def with_options(self: Self, *, threshold: float = 0.3, tile: int | None = None, overlap: float = 0.2,
                     tta: bool = False) -> Self:
        """Returns a predictor with the same model and other options.

        Raises:
            ValueError: an option is out of range, or options contradict each other.
        """

    def __call__(self, image: np.ndarray) -> Prediction:
        """image (H, W, 3) uint8 RGB -> its instances, labels (H, W) or scores (num_classes,)."""
        return self.predict_batch([image])[0]

    def describe(self, prediction: Prediction) -> str:
        """Summarizes a prediction in a few words."""
        return describe(prediction, self.classes)

    def draw(self, image: np.ndarray, prediction: Prediction, *, legend: Legend = 'present') -> np.ndarray:
        """Draws a prediction on its image (H, W, 3) -> figure (H', W', 3) uint8 RGB with boxes, masks or names.

        Args:
            image: image of the prediction.
            prediction: prediction of this predictor for the image.
            legend: as in `visualization.draw_prediction`.
        """
        return draw_prediction(shown(image, self.decoding), prediction, self.classes, self.colors, legend=legend)


def check_threshold(threshold: float) -> None:
    """Raises ValueError if a threshold of scores is not in [0, 1]."""
    if not 0 <= threshold <= 1:
        raise ValueError(f'the threshold is {threshold}, expected a score from 0 (all objects) to 1')


def labels_array(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """labels (H, W) -> the same as uint8, or uint16 with more than 256 classes."""
    return labels.astype(np.uint8 if num_classes <= 256 else np.uint16)
