"""Predictor that runs an exported detector on onnxruntime."""
import numpy as np

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction.base import Prediction
from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.prediction.onnx.description import Description
from mae_backbone.prediction.onnx.paste import paste_mask
from mae_backbone.prediction.onnx.predictor import OnnxPredictor, check_size
from mae_backbone.prediction.onnx.session import OnnxSession
from mae_backbone.prediction.tiles import predict_tiles, square_grid

OUTPUTS = ('boxes', 'scores', 'labels', 'image')


class OnnxDetectorPredictor(OnnxPredictor):
    """Predictor of an exported detector. Images are computed one by one."""

    def __init__(self, session: OnnxSession, description: Description) -> None:
        super().__init__(session, description)
        if session.output_names[:4] != OUTPUTS or session.output_names[4:] not in ((), ('masks',)):
            raise CheckpointError(f'{session.path} has the outputs {", ".join(session.output_names)[:100]}, a detector '
                                  f'has {", ".join(OUTPUTS)} and perhaps masks: export the model again')
        self.mask_threshold = float(description.settings.get('mask_threshold', 0.5))

    def predict_one(self, image: np.ndarray) -> Prediction:
        """Image (H, W, C) -> its instances."""
        if self.tile is None:
            return self._instances(image)
        tiles = square_grid((image.shape[0], image.shape[1]), self.tile, self.overlap)
        return self._instances(image) if len(tiles) == 1 else predict_tiles(image, tiles, self._instances)

    def _instances(self, image: np.ndarray) -> Instances:
        prepared = self.prepare(image)
        inputs = self.normalize(prepared)
        check_size(self.session, self.description, inputs.shape[1], inputs.shape[2])
        boxes, scores, labels, _, *masks = self.session([inputs[None]])
        self._check_outputs(boxes, scores, labels, *masks)
        (H, W), (height, width) = image.shape[:2], prepared.shape[:2]
        keep = scores >= self.threshold
        scale = np.array([width / W, height / H, width / W, height / H], np.float32)
        boxes, scores, labels = boxes[keep] / scale, scores[keep], labels[keep].astype(np.int64)
        if not masks:
            return Instances(boxes, scores, labels)
        regions = [paste_mask(mask, box, (H, W), threshold=self.mask_threshold)
                   for mask, box in zip(masks[0][keep], boxes, strict=True)]
        return Instances(boxes, scores, labels, [CroppedRLE.from_mask(*region) for region in regions])

    def _check_outputs(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, *masks: np.ndarray) -> None:
        """Raises CheckpointError if the outputs do not belong to a detector with these classes."""
        n = len(scores)
        fits = (scores.shape == (n,) and boxes.shape == (n, 4) and labels.shape == (n,)
                and all(one.ndim == 3 and len(one) == n for one in masks)
                and np.isfinite(boxes).all() and ((labels >= 0) & (labels < len(self.classes))).all())
        if not fits:
            raise CheckpointError(f'{self.session.path} returns boxes of {boxes.shape}, scores of {scores.shape} and '
                                  f'labels of {labels.shape}, or labels beyond its {len(self.classes)} classes: export '
                                  'the model again')
