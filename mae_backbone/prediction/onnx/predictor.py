"""Predictors of exported files: base class, classifier and segmenter."""
import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.base import (
    BasePredictor,
    Prediction,
    SmallImageError,
    check_threshold,
    labels_array,
)
from mae_backbone.prediction.onnx.description import MAX_SIDE, Description
from mae_backbone.prediction.onnx.prepare import padding, prepare_function
from mae_backbone.prediction.onnx.session import OnnxSession
from mae_backbone.prediction.tiles import Tile, grid, square_grid

Self = TypeVar('Self', bound='OnnxPredictor')


class OnnxPredictor(BasePredictor):
    """Base class of predictors of exported files.

    Images are (H, W, 3) uint8 RGB, or (H, W, C) for a file with a reader of bands. Several threads may use a predictor
    at once.

    Args:
        session: session that runs the file.
        description: metadata of the file.

    Raises:
        CheckpointError: the file has no class names, or does not state how images are prepared.
    """

    def __init__(self, session: OnnxSession, description: Description) -> None:
        self.session, self.description = session, description
        self.task, self.classes, self.colors = description.task, description.names, description.colors
        self.class_ids = [one.id for one in description.classes]
        self.decoding = description.reading()
        self.threshold, self.overlap = 0.3, 0.2
        self.tile: int | None = None
        if not self.classes:
            raise CheckpointError(f'{session.path} names no classes: export the model again')
        try:
            self.prepare = prepare_function(description, self.decoding)
        except ValueError as error:
            raise CheckpointError(f'{session.path} predicts no image files ({error}): prepare inputs yourself, and run '
                                  'it with onnxruntime') from error

    def with_options(self: Self, *, threshold: float = 0.3, tile: int | None = None, overlap: float = 0.2,
                     tta: bool = False) -> Self:
        """Returns a predictor with the same session and other options.

        Raises:
            ValueError: `tta` is True, which exported files do not support, or an option is out of range.
        """
        if tta:
            raise ValueError('test-time augmentation is in the config of the training, not in an exported file: leave '
                             'it out, or predict with the checkpoint')
        check_threshold(threshold)
        if tile is not None:
            self._check_tiles(tile, overlap)
        other = copy.copy(self)
        other.threshold, other.tile, other.overlap = threshold, tile, overlap
        return other

    def _check_tiles(self, tile: int, overlap: float) -> None:
        square_grid((1, 1), tile, overlap)

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Images (H, W, C) of any sizes -> a prediction for each image."""
        return [self.predict_one(image) for image in images]

    @abstractmethod
    def predict_one(self, image: np.ndarray) -> Prediction:
        """Image (H, W, C) -> its prediction."""

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (H, W, C) -> input (C, H, W) of the file, see the function `normalize`."""
        return normalize(self.description, pixels)

    def run(self, inputs: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Inputs (C, H, W) -> for each input its outputs, without the batch axis, see `run_batches`.

        Raises:
            CheckpointError: the size of an input does not fit the file.
        """
        return run_batches(self.session, self.description, inputs)


class OnnxClassifierPredictor(OnnxPredictor):
    """Predictor of an exported classifier: scores (num_classes,) for each image."""

    def _check_tiles(self, tile: int, overlap: float) -> None:
        raise ValueError('--tile is for detectors and segmenters, and a classifier needs the whole image: remove it')

    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Images (H, W, C) of any sizes -> scores (num_classes,) float32 for each image."""
        outputs = self.run([self.normalize(self.prepare(image)) for image in images])
        return [self._scores(first) for first, *_ in outputs]

    def predict_one(self, image: np.ndarray) -> Prediction:
        """image (H, W, C) -> scores (num_classes,) float32."""
        return self.predict_batch([image])[0]

    def _scores(self, output: np.ndarray) -> np.ndarray:
        _check_shape(self.session, output, (len(self.classes),))
        scores = torch.from_numpy(output)
        return (scores if self.description.activation == 'softmax' else scores.softmax(0)).numpy()


class OnnxSegmenterPredictor(OnnxPredictor):
    """Predictor of an exported segmenter: labels (H, W) for each image.

    The file computes logits. This class averages them over windows (test mode 'slide') and tiles, and resizes them to
    the size of the image, as the prediction in PyTorch does.
    """

    def __init__(self, session: OnnxSession, description: Description) -> None:
        super().__init__(session, description)
        settings = description.settings
        self.align_corners = bool(settings.get('align_corners'))
        threshold, slide = settings.get('threshold'), settings.get('slide')
        self.logit_threshold = None if threshold is None else float(threshold)
        self.smallest = int(settings.get('pads_to', 1))
        self.slide = None if slide is None else (_pair(slide['crop']), _pair(slide['stride']))

    def predict_one(self, image: np.ndarray) -> Prediction:
        """image (H, W, C) -> labels (H, W)."""
        if self.description.activation == 'argmax':
            return labels_array(self._classes(image), len(self.classes))
        labels = chunked_logits.predict_labels(self._chunks(image), threshold=self.logit_threshold).numpy()
        return labels_array(labels, len(self.classes))

    def labels_and_confidence(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H, W, C) -> labels (H, W), and their probabilities (H, W) float32.

        The probabilities are None if the file returns classes instead of logits (`--argmax`).
        """
        if self.description.activation == 'argmax':
            return labels_array(self._classes(image), len(self.classes)), None
        labels, confidence = chunked_logits.predict_confidence(self._chunks(image), threshold=self.logit_threshold)
        return labels_array(labels.numpy(), len(self.classes)), confidence.numpy()

    def _chunks(self, image: np.ndarray) -> Iterator[Tensor]:
        """Image (H, W, C) -> logits in chunks (num_classes, n, W) of n rows, from top to bottom."""
        if self.tile is None:
            logits = self._logits(image)
            return chunked_logits.resize(chunked_logits.split_rows(logits), (logits.shape[1], logits.shape[2]),
                                         (image.shape[0], image.shape[1]), align_corners=self.align_corners)
        tiles = square_grid((image.shape[0], image.shape[1]), self.tile, self.overlap)
        return chunked_logits.average_tiles(tiles, image.shape[1], lambda tile: self._tile_logits(image[tile.slices]))

    def _tile_logits(self, image: np.ndarray) -> Tensor:
        """image (H, W, C) -> logits (C, H, W)."""
        logits = self._logits(image)
        size = (image.shape[0], image.shape[1])
        return torch.cat(list(chunked_logits.resize(
            chunked_logits.split_rows(logits), (logits.shape[1], logits.shape[2]), size,
            align_corners=self.align_corners)), dim=1)

    def _classes(self, image: np.ndarray) -> np.ndarray:
        """Image (H, W, C) -> labels (H, W), for a file that returns classes instead of logits."""
        prepared = self.prepare(image)
        if self.tile is not None or self.slide is not None or prepared.shape != image.shape:
            raise ValueError(f'{self.session.path} returns classes, but its logits would have to be averaged or '
                             'resized for this image: export the model without --argmax')
        height, width = prepared.shape[:2]
        return self.run([self._padded(prepared)])[0][0][:height, :width]

    def _logits(self, image: np.ndarray) -> Tensor:
        """image (H, W, C) -> logits (C, H', W') at the size of the test pipeline."""
        prepared = self.prepare(image)
        height, width = prepared.shape[:2]
        inputs = self._padded(prepared)
        if self.slide is None:
            logits = self._window_logits(inputs)
        else:
            (crop, stride), size = self.slide, (inputs.shape[1], inputs.shape[2])

            def logits_of(tile: Tile) -> Tensor:
                rows, columns = tile.slices
                return self._window_logits(inputs[:, rows, columns])
            logits = torch.cat(list(chunked_logits.average_tiles(grid(size, crop, stride), size[1], logits_of)), dim=1)
        return logits[:, :height, :width]

    def _padded(self, prepared: np.ndarray) -> np.ndarray:
        """Prepared image (H, W, C) -> input (C, H', W') of the file, padded as in the training."""
        height, width = prepared.shape[:2]
        bottom, right = padding(self.description, height, width)
        value = (self.description.prepare.get('pad') or {}).get('value', 0)
        return self._pad(self.normalize(prepared), bottom, right, value)

    def _window_logits(self, inputs: np.ndarray) -> Tensor:
        """inputs (channels, H, W) -> logits (C, H, W)."""
        height, width = inputs.shape[1:]
        least = self.smallest
        outputs, *_ = self.run([self._pad(inputs, max(least - height, 0), max(least - width, 0), 0)])[0]
        number = 1 if self.logit_threshold is not None else len(self.classes)
        _check_shape(self.session, outputs[:, :height, :width], (number, height, width))
        logits = torch.from_numpy(outputs[:, :height, :width])
        if self.description.activation == 'softmax':
            logits = logits.logit() if self.logit_threshold is not None else logits.clamp_min(1e-38).log()
        return logits

    def _pad(self, inputs: np.ndarray, bottom: int, right: int, value: float) -> np.ndarray:
        if not bottom and not right:
            return inputs
        if self.description.preprocessing:  # in the training, images are padded after they are normalized
            height, width = inputs.shape[1:]
            raise ValueError(f'an image of {height}x{width} pixels would have to be padded to {height + bottom}x'
                             f'{width + right} after it is normalized, but {self.session.path} normalizes it inside: '
                             'take images of multiples of this size, or export without --preprocessing')
        return np.pad(inputs, ((0, 0), (0, bottom), (0, right)), constant_values=value)


def normalize(description: Description, pixels: np.ndarray) -> np.ndarray:
    """Pixels (H, W, C) -> input (C, H, W) of a file: normalized float32, or pixels if the file normalizes them."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    if description.preprocessing:
        wide = description.reader.get('dtype') == 'uint16'
        return planes.round().astype(np.uint16) if wide else planes
    planes = (planes[::-1] if description.channels == 'BGR' else planes).astype(np.float32)
    if description.mean:
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (description.mean, description.std))
        planes = (planes - mean) / std
    return np.ascontiguousarray(planes)


def run_batches(session: OnnxSession, description: Description,
                inputs: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    """Inputs (C, H, W) -> for each input the outputs of the file, without the batch axis.

    Inputs of equal size are computed together if the batch size of the file is dynamic.

    Raises:
        CheckpointError: the size of an input does not fit the file.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, one in enumerate(inputs):
        check_size(session, description, one.shape[1], one.shape[2])
        groups.setdefault(one.shape, []).append(index)
    results: list[Any] = [None] * len(inputs)
    for indices in groups.values():
        parts = [indices] if 'batch' in description.dynamic else [[index] for index in indices]
        for part in parts:
            outputs = session([np.stack([inputs[index] for index in part])])
            for place, index in enumerate(part):
                results[index] = [output[place] for output in outputs]
    return results


def check_size(session: OnnxSession, description: Description, height: int, width: int) -> None:
    """Raises CheckpointError if images of height x width pixels do not fit the file, SmallImageError if too small."""
    if 'size' not in description.dynamic and not description.preprocessing:
        if (height, width) != description.image_size:
            expected = 'x'.join(map(str, description.image_size))
            raise CheckpointError(f'{session.path} takes images of {expected} pixels only, this one is {height}x'
                                  f'{width}: export the model with --dynamic batch,size, or pass --tile for a '
                                  'segmenter')
    elif 'size' in description.dynamic and (max(height, width) > MAX_SIDE or any(
            side % description.multiple or side < description.minimum for side in (height, width))):
        multiples = f'multiples of {description.multiple} pixels, ' if description.multiple > 1 else ''
        is_small = min(height, width) < description.minimum
        raise (SmallImageError if is_small else CheckpointError)(
            f'{session.path} takes images with sides of {multiples}{description.minimum} to {MAX_SIDE} pixels, this '
            f'one is {height}x{width}: predict it with the checkpoint, or train with a model.data_preprocessor that '
            'pads images to more (pad_size_divisor)')


def _check_shape(session: OnnxSession, output: np.ndarray, shape: tuple[int, ...]) -> None:
    if output.shape != shape or output.dtype != np.float32:
        raise CheckpointError(f'{session.path} returns {output.dtype} of {output.shape}, its metadata promise float32 '
                              f'of {shape}: export the model again')


def _pair(value: Any) -> tuple[int, int]:
    if not (isinstance(value, list) and len(value) == 2 and all(type(side) is int and 0 < side <= MAX_SIDE
                                                                for side in value)):
        raise CheckpointError(f'the windows of the file are {str(value)[:60]}: export the model again')
    return value[0], value[1]
