"""Predictors of each task with known predictions, for tests of what writes and draws them."""
from collections.abc import Callable, Sequence

import numpy as np

from mae_backbone.data.decode import DEFAULT
from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.prediction.predictor import Prediction, Predictor
from mae_backbone.utils.palette import palette


class KnownPredictor(Predictor):
    """Predictor of a task that returns what a function returns."""

    def __init__(self, task: str, classes: tuple[str, ...], predict: Callable[[np.ndarray], Prediction]) -> None:
        self.task, self.classes, self.colors, self.predict = task, classes, palette(len(classes)), predict
        self.decoding = DEFAULT

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self.predict(image) for image in images]


def single_cell(image: np.ndarray) -> Instances:
    """A cell that fills the upper left quarter of the image."""
    height, width = (side // 2 for side in image.shape[:2])
    return Instances(np.float32([[0, 0, width, height]]), np.float32([0.75]), np.array([1]),
                   [CroppedRLE.from_mask(np.ones((height, width), bool))])


DETECTOR = KnownPredictor('detection', ('nucleus', 'cell'), single_cell)
SEGMENTER = KnownPredictor('segmentation', ('sky', 'road', 'car'),
                           lambda image: np.arange(image[..., 0].size, dtype=np.uint8).reshape(image.shape[:2]) % 2)
CLASSIFIER = KnownPredictor('classification', ('cat', 'dog'), lambda image: np.float32([0.25, 0.75]))
