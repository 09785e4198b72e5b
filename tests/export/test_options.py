"""Options of an export are read from words and numbers, and others are refused."""
from pathlib import Path

import pytest
from helpers.model_files import write_checkpoint

import mae_backbone
from mae_backbone.export.build import build_target
from mae_backbone.export.options import ExportOptions, read_dynamic, read_size
from mae_backbone.export.run import ExportedFile


def test_dynamic_axes_are_named():
    assert read_dynamic(None) is None
    assert read_dynamic('size, batch') == read_dynamic(['batch', 'size']) == ('batch', 'size')
    assert read_dynamic('none') == read_dynamic('') == ()
    with pytest.raises(ValueError, match="dynamic=batch,depth: expected 'batch'"):
        read_dynamic('batch,depth')


def test_sizes_are_one_or_two_numbers():
    assert read_size(None) is None
    assert read_size(512) == read_size('512') == read_size((512, 512)) == (512, 512)
    assert read_size('512,768') == (512, 768)
    for wrong in ('a', '0', '1,2,3', -4, [], '1.5'):
        with pytest.raises(ValueError, match='expected a number of pixels'):
            read_size(wrong)


@pytest.mark.parametrize(('out', 'options', 'error', 'message'), [
    ('a.tflite', {}, ValueError, 'ends in .onnx or .pt2'), ('missing/a.onnx', {}, FileNotFoundError, 'missing'),
    ('.onnx', {}, ValueError, 'ends in .onnx or .pt2'), ('folder.onnx', {}, ValueError, 'is a folder'),
    ('a.onnx', dict(part='neck'), ValueError, "part='neck', expected one of model"),
    ('a.onnx', dict(softmax=True, argmax=True), ValueError, 'choose one'),
    ('a.onnx', {}, FileNotFoundError, 'checkpoint .*none.pth does not exist')])
def test_wrong_options_are_refused_first(tmp_path: Path, out: str, options: dict, error: type, message: str):
    (tmp_path / 'folder.onnx').mkdir()
    with pytest.raises(error, match=message):
        mae_backbone.export(tmp_path / 'none.pth', tmp_path / out, **options)


def test_the_smallest_image_of_a_file_is_stated(tmp_path: Path):
    model = mae_backbone.load(write_checkpoint('pretraining', tmp_path))
    (tmp_path / 'a.onnx').touch()
    lines = [str(ExportedFile(tmp_path / 'a.onnx', build_target(model, ExportOptions(dynamic=dynamic)), None))
             for dynamic in (('batch', 'size'), ('batch',))]
    assert '  images    sides of 16 pixels or more, multiples of 8' in lines[0].splitlines()
    assert 'images    sides' not in lines[1]
