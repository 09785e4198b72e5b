"""Small ONNX files as `mae-backbone export` writes them, built without PyTorch."""
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mae_backbone.prediction.onnx.description import ClassInfo, Description

CLASSES = (ClassInfo(3, 'cat', (255, 0, 0)), ClassInfo(5, 'dog', (0, 255, 0)), ClassInfo(9, 'fox', (0, 0, 255)))
MEAN, STD = (127.0, 120.0, 110.0), (60.0, 61.0, 62.0)
# (3 classes, 3 channels): logits are this matrix times the channels.
WEIGHT = np.float32([[1, -1, 0.5], [0.25, 1, -1], [-0.5, 0.5, 1]])


def describe(task: str, **options: object) -> Description:
    """A description of a model with the three classes."""
    return Description(**{'task': task, 'activation': 'logits', 'classes': CLASSES, 'mean': MEAN, 'std': STD,
                          'image_size': (16, 16), 'dynamic': ('batch',), 'prepare': {'kind': 'evaluation'}} | options)


def classifier(path: Path, metadata: Mapping[str, str], *, size: int = 16, weight: np.ndarray = WEIGHT) -> Path:
    """A file whose logits (B, 3) are a `weight` (3, C) times the mean of the channels of images (B, C, size, size)."""
    nodes = [helper.make_node('ReduceMean', ['images', 'axes'], ['mean'], keepdims=0),
             helper.make_node('MatMul', ['mean', 'weight'], ['logits'])]
    tensors = [numpy_helper.from_array(np.int64([2, 3]), 'axes'), numpy_helper.from_array(weight.T.copy(), 'weight')]
    return _save(path, nodes, tensors, ['batch', weight.shape[1], size, size],
                 ('logits', TensorProto.FLOAT, ['batch', 3]), metadata)


def segmenter(path: Path, metadata: Mapping[str, str]) -> Path:
    """A file whose logits (B, 3, H, W) are `WEIGHT` times each pixel of images (B, 3, H, W)."""
    nodes = [helper.make_node('Conv', ['images', 'weight'], ['logits'])]
    tensors = [numpy_helper.from_array(WEIGHT[:, :, None, None].copy(), 'weight')]
    return _save(path, nodes, tensors, ['batch', 3, 'h', 'w'],
                 ('logits', TensorProto.FLOAT, ['batch', 3, 'h', 'w']), metadata)


def _save(path: Path, nodes: list, tensors: list, shape: list, output: tuple, metadata: Mapping[str, str]) -> Path:
    graph = helper.make_graph(nodes, 'model', [helper.make_tensor_value_info('images', TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(*output)], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, str(path))
    return path
