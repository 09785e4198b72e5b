"""OpenVINO computes what onnxruntime computes."""
from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_files import classifier, describe, segmenter

import mae_backbone
from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction.onnx.openvino_session import OpenvinoSession
from mae_backbone.prediction.onnx.session import OnnxSession

pytest.importorskip('openvino')


def test_outputs_and_metadata_are_those_of_onnxruntime(tmp_path: Path):
    metadata = describe('segmentation').to_metadata()
    path = segmenter(tmp_path / 'a.onnx', metadata)
    images = np.random.default_rng(0).normal(size=(2, 3, 20, 28)).astype(np.float32)
    session, expected = OpenvinoSession(path), OnnxSession(path)
    for one in (images, images[:1, :, :16]):
        np.testing.assert_allclose(session([one])[0], expected([one])[0], atol=1e-5)
    assert session.metadata == expected.metadata
    assert (session.input_names, session.output_names) == (expected.input_names, expected.output_names)


def test_models_predict(tmp_path: Path):
    path = classifier(tmp_path / 'a.onnx', describe('classification').to_metadata())
    image = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    result = mae_backbone.load(path, device='openvino').predict(image)
    np.testing.assert_allclose(result.scores, mae_backbone.load(path).predict(image).scores, atol=1e-5)


def test_damaged_files_and_inputs_are_refused(tmp_path: Path):
    path = classifier(tmp_path / 'a.onnx', describe('classification').to_metadata())
    with pytest.raises(CheckpointError, match='cannot compute inputs'):
        OpenvinoSession(path)([np.zeros((1, 3, 8, 9), np.float32)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match='damaged'):
        OpenvinoSession(path)
