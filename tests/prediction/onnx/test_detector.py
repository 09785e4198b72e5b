"""Instances of an exported detector: scaled to the image, above the threshold, masks pasted."""
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.onnx_files import describe
from onnx import TensorProto, helper, numpy_helper

import mae_backbone
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction.typed_results import DetectionResult

BOXES = np.float32([[4, 8, 24, 20], [0, 0, 16, 16], [10, 10, 12, 12]])  # of an image that is resized to twice its size
SCORES, LABELS = np.float32([0.9, 0.6, 0.2]), np.int64([2, 0, 1])
MASKS = np.stack([np.full((28, 28), value, np.float32) for value in (0.8, 0.2, 0.8)])
OPTIONS = dict(activation='', dynamic=('batch', 'size'),
               prepare={'kind': 'pipeline', 'steps': [{'factor': [2.0, 2.0], 'keep_ratio': True}]})


def _detector(path: Path, *, labels: np.ndarray = LABELS, masks: bool = True, last: str = 'masks') -> Path:
    """A file that finds the same objects in every image."""
    values = dict(boxes=BOXES, scores=SCORES, labels=labels, image=np.zeros(3, np.int64)) | ({last: MASKS} if masks
                                                                                           else {})
    nodes = [helper.make_node('Constant', [], [name], value=numpy_helper.from_array(value, name))
             for name, value in values.items()]
    outputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
               for name, value in values.items()]
    images = helper.make_tensor_value_info('images', TensorProto.FLOAT, ['batch', 3, 'h', 'w'])
    model = helper.make_model(helper.make_graph(nodes, 'model', [images], outputs),
                              opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    helper.set_model_props(model, describe('detection', **OPTIONS).to_metadata())
    onnx.save(model, str(path))
    return path


def test_instances(tmp_path: Path):
    model = mae_backbone.load(_detector(tmp_path / 'a.onnx'))
    result = model.predict(np.zeros((20, 30, 3), np.uint8))
    assert isinstance(result, DetectionResult)
    np.testing.assert_allclose(result.boxes, BOXES[:2] / 2)
    np.testing.assert_allclose(result.scores, SCORES[:2])
    assert list(result.labels) == [2, 0]
    expected = np.zeros((2, 20, 30), bool)
    expected[0, 4:10, 2:12] = True  # the mask of the second object is below the threshold everywhere
    np.testing.assert_array_equal(np.stack(result.masks), expected)
    assert len(model.predict(np.zeros((20, 30, 3), np.uint8), threshold=0.1).scores) == 3


def test_detector_without_masks(tmp_path: Path):
    result = mae_backbone.load(_detector(tmp_path / 'a.onnx', masks=False)).predict(np.zeros((20, 30, 3), np.uint8))
    assert len(result.boxes) == 2
    assert result.masks is None


def test_tiles(tmp_path: Path):
    """Each tile has the same objects, shifted with it."""
    model = mae_backbone.load(_detector(tmp_path / 'a.onnx'))
    result = model.predict(np.zeros((20, 60, 3), np.uint8), tile=30, overlap=0.0)
    assert {tuple(box) for box in result.boxes.tolist()} >= {(2.0, 4.0, 12.0, 10.0)}
    assert result.boxes[:, 0].max() > 20


@pytest.mark.parametrize(('options', 'message'), [
    (dict(labels=np.int64([0, 1, 3])), 'beyond its 3 classes'), (dict(last='other'), 'has the outputs')])
def test_files_that_are_no_detectors_are_refused(tmp_path: Path, options: dict, message: str):
    path = _detector(tmp_path / 'a.onnx', **options)
    with pytest.raises(CheckpointError, match=message):
        mae_backbone.load(path).predict(np.zeros((20, 30, 3), np.uint8))
