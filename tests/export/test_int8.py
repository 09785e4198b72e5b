"""int8 files predict about what the float32 files predict, with weights of 8 bits."""
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers.onnx_files import classifier, describe, segmenter

import mae_backbone
from mae_backbone.cli.main import main
from mae_backbone.export.int8 import quantize, spread
from mae_backbone.prediction.instances import Instances
from mae_backbone.prediction.onnx.model import load_onnx
from mae_backbone.utils.image_grid import save_picture


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / 'images'
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(12):
        coarse = random.integers(0, 256, (3, 5, 3), dtype=np.uint8)
        save_picture(str(folder / f'{i}.png'), coarse.repeat(8, axis=0).repeat(8, axis=1))
    return folder


@pytest.mark.parametrize('task', ['classification', 'segmentation'])
def test_weights_have_8_bits_and_predictions_agree(tmp_path: Path, images: Path, task: str):
    write, options = (classifier, {}) if task == 'classification' else (
        segmenter, dict(dynamic=('batch', 'size'), prepare={'kind': 'pipeline', 'steps': []}))
    path = write(tmp_path / 'a.onnx', describe(task, **options).to_metadata())
    before = load_onnx(path)
    text = quantize(path, images)
    content = onnx.load(path)
    assert onnx.TensorProto.INT8 in {one.data_type for one in content.graph.initializer}
    assert float(text.split('%')[0]) >= 90
    after = load_onnx(path)
    assert after.classes == before.classes
    assert after.session.metadata['mae_backbone.int8'] == text
    image = np.full((16, 16, 3), 200, np.uint8)
    assert type(after.predict(image)) is type(before.predict(image))


def test_objects_are_matched_by_class_and_overlap(tmp_path: Path):
    from mae_backbone.export.int8 import _matched
    boxes = np.float32([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    one = Instances(boxes, np.float32([0.9, 0.8, 0.1]), np.array([0, 1, 1]))
    two = Instances(boxes + np.float32(1), np.float32([0.7, 0.8, 0.9]), np.array([0, 0, 1]))
    assert _matched(one, two) == (2.0, 5.0)  # the first; the second has another class, the third a low score in `one`
    assert _matched(one, Instances(boxes[:0], np.float32([]), np.array([], int))) == (0.0, 2.0)


def test_images_are_evenly_spread():
    assert spread(range(100), 4) == [0, 25, 50, 75]
    assert spread(range(3), 4) == [0, 1, 2]
    assert spread(range(5), 4) == [0, 2, 4]


def test_folder_without_images_is_refused(tmp_path: Path):
    path = classifier(tmp_path / 'a.onnx', describe('classification').to_metadata())
    content = path.read_bytes()
    (tmp_path / 'empty').mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match='empty'):
        quantize(path, tmp_path / 'empty')
    assert path.read_bytes() == content


def test_options_that_contradict_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(['export', 'model.pth', str(tmp_path / 'a.onnx'), '--int8']) == 2
    assert '--calibration FOLDER' in capsys.readouterr().err
    with pytest.raises(ValueError, match='int8 is for ONNX files'):
        mae_backbone.export('model.pth', tmp_path / 'a.pt2', calibration=tmp_path)
