"""ONNX files are checked before onnxruntime reads them: each damage gives one line."""
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.onnx_files import classifier, describe
from onnx import TensorProto

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction.onnx import packages
from mae_backbone.prediction.onnx.session import OnnxSession


def external(path: Path, **entries: str) -> Path:
    """The file with its weights in another one, as `entries` say."""
    model = onnx.load(str(path))
    tensor = next(one for one in model.graph.initializer if one.name == 'weight')
    (path.parent / 'weights.bin').write_bytes(tensor.raw_data)
    tensor.ClearField('raw_data')
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    onnx.save_model(model, str(path))
    return path


def test_a_session_computes_and_knows_its_metadata(tmp_path: Path):
    session = OnnxSession(classifier(tmp_path / 'a.onnx', describe('classification').to_metadata()))
    assert session.input_names == ('images',)
    assert session.output_names == ('logits',)
    assert session.metadata['mae_backbone.task'] == 'classification'
    outputs, = session([np.ones((2, 3, 16, 16), np.float32)])
    np.testing.assert_allclose(outputs, [[0.5, 0.25, 1.0]] * 2)
    with pytest.raises(CheckpointError, match=r'cannot compute inputs of \(1, 3, 8, 8\)'):
        session([np.ones((1, 3, 8, 8), np.float32)])


def test_weights_next_to_the_file_are_read(tmp_path: Path):
    path = external(classifier(tmp_path / 'a.onnx', {}), location='weights.bin', length='36')
    outputs, = OnnxSession(path)([np.ones((1, 3, 16, 16), np.float32)])
    np.testing.assert_allclose(outputs, [[0.5, 0.25, 1.0]])


@pytest.mark.parametrize(('entries', 'message'), [
    (dict(location='/etc/hostname'), 'expected a file next to it'),
    (dict(location='../weights.bin'), 'expected a file next to it'),
    (dict(location='folder/weights.bin'), 'expected a file next to it'),
    (dict(location='missing.bin'), 'expected a file next to it'),
    (dict(location='link.bin'), 'expected a file next to it'),
    (dict(), 'expected a file next to it'),
    (dict(location='weights.bin', offset='20', length='36'), 'end behind the end'),
    (dict(location='weights.bin', offset='-4', length='36'), 'end behind the end'),
    (dict(location='weights.bin', length='many'), 'invalid literal'),
])
def test_weights_elsewhere_are_refused(tmp_path: Path, entries: dict[str, str], message: str):
    (tmp_path / 'link.bin').symlink_to('/etc/hostname')
    with pytest.raises(CheckpointError, match=message):
        OnnxSession(external(classifier(tmp_path / 'a.onnx', {}), **entries))


def test_weights_of_subgraphs_are_checked(tmp_path: Path):
    model = onnx.load(str(classifier(tmp_path / 'a.onnx', {})))
    inner = onnx.helper.make_graph([], 'inner', [], [], [onnx.numpy_helper.from_array(np.zeros(2, np.float32), 'w')])
    inner.initializer[0].data_location = TensorProto.EXTERNAL
    model.graph.node.append(onnx.helper.make_node('If', ['mean'], [], then_branch=inner))
    (tmp_path / 'b.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match='expected a file next to it'):
        OnnxSession(tmp_path / 'b.onnx')


@pytest.mark.parametrize('content', [b'', b'\0' * 100, b'not an ONNX file', b'\x08\x0a'])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / 'a.onnx').write_bytes(content)
    with pytest.raises(CheckpointError, match='is not an ONNX file') as error:
        OnnxSession(tmp_path / 'a.onnx')
    assert '\n' not in str(error.value)


def test_cut_and_changed_files_are_refused(tmp_path: Path):
    content = classifier(tmp_path / 'a.onnx', describe('classification').to_metadata()).read_bytes()
    generator = np.random.default_rng(0)
    messages = []
    for number in range(60):
        changed = bytearray(content[:generator.integers(1, len(content))] if number % 2 else content)
        for place in generator.integers(0, len(changed), 4):
            changed[place] = generator.integers(256)
        (tmp_path / 'b.onnx').write_bytes(changed)
        try:
            OnnxSession(tmp_path / 'b.onnx')
        except CheckpointError as error:
            messages.append(str(error))
    assert len(messages) > 40
    assert not any('\n' in message for message in messages)


def test_an_operator_that_does_not_exist_is_refused(tmp_path: Path):
    model = onnx.load(str(classifier(tmp_path / 'a.onnx', {})))
    model.graph.node[0].op_type = 'Nonsense'
    onnx.save_model(model, str(tmp_path / 'a.onnx'))
    with pytest.raises(CheckpointError, match='cannot be run by onnxruntime'):
        OnnxSession(tmp_path / 'a.onnx')


@pytest.mark.parametrize(('device', 'message'), [('tpu', "runs on 'cpu' or 'cuda:0'"), ('cuda:x', "'cuda:0'"),
                                                 ('cuda', 'is built without CUDA')])
def test_devices_that_do_not_exist_are_refused(tmp_path: Path, device: str, message: str):
    with pytest.raises(ValueError, match=message):
        OnnxSession(classifier(tmp_path / 'a.onnx', {}), device=device)


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(packages.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'need onnx and onnxruntime: pip install mae_backbone\[export\]'):
        OnnxSession(tmp_path / 'a.onnx')
