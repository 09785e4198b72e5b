"""Quantization of an exported file to 8-bit integers, calibrated with images, by onnxruntime."""
import logging
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.data.reading import suffixes_of
from mae_backbone.export.target import ExportError
from mae_backbone.prediction.inputs import sources
from mae_backbone.prediction.instances import Instances
from mae_backbone.prediction.onnx.description import PREFIX
from mae_backbone.prediction.onnx.model import OnnxEncoder, OnnxModel, load_onnx

# Our choice: with more images the ranges of activations change little.
MAX_IMAGES, COMPARED = 64, 16
_SIDE = 512  # pixels: a graph has the whole N x N attention, 20 GB for an image of 1,272 x 1,024 and patches of 8
_THRESHOLD, _IOU = 0.3, 0.5  # of objects that are compared
# Layers with weights. Products of activations, such as attention, lose accuracy and gain little.
_LAYERS = ['MatMul', 'Gemm', 'Conv']


class _Recorder:
    """Session that keeps the inputs it is called with."""

    def __init__(self, session: Any) -> None:
        self._session, self.inputs = session, []  # type: Any, list[Sequence[np.ndarray]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.inputs.append(inputs)
        return self._session(inputs)


def quantize(path: Path, images: str | Path) -> str:
    """Replaces a file by one with weights and activations of 8 bits, and compares the predictions of both.

    Weights have a scale for each output channel. The range of each activation is its range in the calibration images,
    which are prepared as for a prediction. Attention, norms and NMS stay in float32.

    Args:
        path: ONNX file of `mae-backbone export` in float32.
        images: folder of calibration images. Up to `MAX_IMAGES` of them are used, evenly spread.

    Returns:
        A sentence on the agreement of both files. The metadata have it, too.

    Raises:
        ExportError: onnxruntime cannot quantize the model.
        FileNotFoundError, ValueError: there are no images, or they cannot be read.
    """
    import onnx
    model = load_onnx(path)
    chosen = spread(list(sources(images, suffixes_of(model.decoding))), MAX_IMAGES)
    if not chosen:
        raise ValueError(f'{images} has no images: --calibration takes a folder of images like the training images')
    with tempfile.TemporaryDirectory(prefix='int8_') as folder:
        simplified, small = Path(folder) / 'model.onnx', Path(folder) / 'int8.onnx'
        _fold_constants(path, simplified)
        _quantize(simplified, small, _Calibration(model, chosen))
        content = onnx.load(small)
        onnx.helper.set_model_props(content, model.session.metadata)
        onnx.save(content, small)
        result = agreement(model, load_onnx(small), spread(chosen, COMPARED))
        onnx.helper.set_model_props(content, {**model.session.metadata, f'{PREFIX}int8': result})
    onnx.save(content, path)
    path.with_name(f'{path.name}.data').unlink(missing_ok=True)  # weights in float32 of a large model
    return result


def _quantize(source: Path, path: Path, calibration: Any) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it recommends its own preprocessing, which takes no dynamic sizes
    try:
        quantize_static(
            source, path, calibration, quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=_LAYERS,
            calibrate_method=CalibrationMethod.MinMax, extra_options={'MatMulConstBOnly': True})
    except (OSError, CheckpointError):
        raise
    except Exception as error:  # of onnxruntime
        raise ExportError(f'onnxruntime cannot quantize the model ({type(error).__name__}: {str(error)[:200]}): export '
                          'it without --int8') from error
    finally:
        logging.root.setLevel(level)


class _Calibration:
    """Yields the inputs of a model for images, as onnxruntime's `CalibrationDataReader` does."""

    def __init__(self, model: OnnxModel | OnnxEncoder, images: Sequence[Any]) -> None:
        self._inputs = self._all(model, images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next inputs by name; None at the end."""
        return next(self._inputs, None)

    def _all(self, model: OnnxModel | OnnxEncoder, images: Sequence[Any]) -> Iterator[dict[str, np.ndarray]]:
        user: Any = model if isinstance(model, OnnxEncoder) else model.predictor
        recorder, session = _Recorder(user.session), user.session
        for source in images:
            user.session = recorder
            try:
                _predict(model, _read(model, source))
            finally:
                user.session = session
            for inputs in recorder.inputs:
                yield dict(zip(session.input_names, inputs, strict=True))
            recorder.inputs.clear()


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Up to `most` items, evenly spread over the sequence."""
    step = max(1, -(-len(items) // most))
    return list(islice(items, 0, None, step))


def _fold_constants(source: Path, path: Path) -> None:
    """Writes a file whose weights are constants, where the source has operations on weights."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(source), options, providers=['CPUExecutionProvider'])


def _read(model: OnnxModel | OnnxEncoder, source: Any) -> np.ndarray:
    """An image (H, W, C); for models that take any size, at most its central part of `_SIDE` pixels a side."""
    image = source.read(model.decoding)
    if model.task not in ('detection', 'segmentation'):
        return image
    top, left = (max(0, side - _SIDE) // 2 for side in image.shape[:2])
    return image[top:top + _SIDE, left:left + _SIDE]


def _predict(model: OnnxModel | OnnxEncoder, image: np.ndarray) -> Any:
    return model.features(image) if isinstance(model, OnnxEncoder) else model.predictor(image)


def agreement(model: OnnxModel | OnnxEncoder, other: OnnxModel | OnnxEncoder, images: Sequence[Any]) -> str:
    """A sentence on how many predictions of two files agree."""
    pairs = [(_predict(model, image), _predict(other, image)) for image in (_read(model, source) for source in images)]
    counts = [_agreeing(one, two, is_map=model.task == 'segmentation') if model.task != 'features' else (
        _cosine(one, two), 1.0) for one, two in pairs]
    agreeing, total = np.sum(counts, axis=0)
    what = {'classification': 'of the images have the same class', 'segmentation': 'of the pixels have the same class',
            'detection': f'of the objects are found by both (same class, IoU {_IOU} or more)',
            'features': 'is the mean cosine of the features'}[model.task]
    return f'{agreeing / max(total, 1):.1%} {what} in float32 and int8, {len(images)} images'


def _agreeing(one: Any, two: Any, *, is_map: bool) -> tuple[float, float]:
    """Number of predictions of an image that agree, and number of all."""
    if isinstance(one, Instances):
        return _matched(one, two)
    if is_map:
        return float((one == two).sum()), float(one.size)
    return float(one.argmax() == two.argmax()), 1.0


def _matched(one: Instances, two: Instances) -> tuple[float, float]:
    """Twice the number of matched objects, and the number of objects of both: their ratio is the F1 score."""
    import torch
    from torchvision.ops import box_iou
    one, two = (each.select(np.flatnonzero(each.scores >= _THRESHOLD)) for each in (one, two))
    overlaps = box_iou(torch.from_numpy(one.boxes), torch.from_numpy(two.boxes)).numpy()
    overlaps[one.labels[:, None] != two.labels] = 0
    matched = 0
    while overlaps.size and overlaps.max() >= _IOU:
        i, j = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps[i], overlaps[:, j] = 0, 0
        matched += 1
    return 2.0 * matched, float(len(one) + len(two))


def _cosine(one: np.ndarray, two: np.ndarray) -> float:
    """Mean cosine between the features (1, D, h, w) at each place."""
    products = (one * two).sum(1) / np.maximum(np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1), 1e-12)
    return float(products.mean())
