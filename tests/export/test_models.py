"""Exported models predict what the checkpoint predicts, at every size that is dynamic."""
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.model_files import write_checkpoint
from torch import nn

import mae_backbone
from mae_backbone.cli.main import main
from mae_backbone.core import exported_attention
from mae_backbone.export.build import BUILDERS, build_target
from mae_backbone.export.encoder import EncoderOutputs
from mae_backbone.export.options import ExportOptions
from mae_backbone.export.run import write_target
from mae_backbone.export.segmenter import MatrixPooling, replace_adaptive_pooling
from mae_backbone.export.target import ExportError, ExportTarget, image_axes
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.prediction.onnx.description import Description
from mae_backbone.prediction.onnx.prepare import padding
from mae_backbone.utils.image_grid import save_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 72, 3), dtype=np.uint8)
slow = pytest.mark.slow  # torch.export and the conversion to ONNX take seconds for each model


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {task: write_checkpoint(task, tmp_path_factory.mktemp(task))
            for task in ('classification', 'segmentation', 'pretraining')}


@slow
def test_an_exported_classifier_writes_the_files_of_its_checkpoint(files, tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture):
    (tmp_path / 'images').mkdir()
    save_picture(str(tmp_path / 'images' / 'a.png'), IMAGE)
    assert main(['export', files['classification'], tmp_path / 'model.onnx', '--verify']) == 0
    assert 'verified  largest difference to PyTorch' in capsys.readouterr().out
    contents = []
    for name, folder in ((files['classification'], tmp_path / 'a'), (tmp_path / 'model.onnx', tmp_path / 'b')):
        assert main(['predict', name, tmp_path / 'images', '-o', folder]) == 0
        assert sorted(file.name for file in folder.iterdir()) == ['a.png', 'scores.json']
        contents.append(json.loads((folder / 'scores.json').read_text()))
    (expected,), (found,) = contents
    assert found.pop('scores') == pytest.approx(expected.pop('scores'), abs=1e-4)
    assert found == expected
    result = mae_backbone.load(tmp_path / 'model.onnx').predict([IMAGE, IMAGE[::-1].copy()], batch_size=2)[1]
    expected = mae_backbone.load(files['classification']).predict(IMAGE[::-1].copy())
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    assert result.name == expected.name


@slow
def test_an_exported_mae_computes_features_at_other_sizes(files, tmp_path: Path):
    model = mae_backbone.load(files['pretraining'])
    model.export(tmp_path / 'encoder.onnx', dynamic='batch,size', verify=True)
    encoder = mae_backbone.load(tmp_path / 'encoder.onnx')
    for options in (dict(), dict(pool='mean'), dict(pool='class'), dict(size=(40, 72))):
        np.testing.assert_allclose(encoder.features(IMAGE, **options), model.features(IMAGE, **options), atol=2e-5)
    with pytest.raises(ValueError, match='contains an encoder, which does not predict classes'):
        encoder.predict(IMAGE)


@slow
def test_an_exported_segmenter_takes_pixels_of_any_size(files, tmp_path: Path):
    model = mae_backbone.load(files['segmentation'])
    model.export(tmp_path / 'model.onnx', argmax=True, preprocessing=True, verify=True)
    exported = mae_backbone.load(tmp_path / 'model.onnx')
    for image in (IMAGE, IMAGE.transpose(1, 0, 2).copy(), IMAGE[:32, :64]):
        expected = model.predict(image)
        assert (exported.predict(image).labels == expected.labels).mean() > 0.999
        assert len(np.unique(expected.labels)) > 1
    with pytest.raises(ValueError, match='export the model without --argmax'):
        exported.predict(IMAGE, tile=32)


def test_a_segmenter_with_preprocessing_pads_images_in_the_graph_as_its_data_preprocessor_does(files):
    model = mae_backbone.load(files['segmentation'])
    patch = model.net.backbone.patch_size
    model.net.data_preprocessor.test_cfg = dict(size_divisor=patch)
    target = build_target(model, ExportOptions(preprocessing=True, activation='argmax'))
    image = IMAGE[:5 * patch - 3, :7 * patch - 1]
    assert padding(Description.from_metadata(target.metadata), *image.shape[:2]) == (0, 0)
    labels, = target.expected(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])
    np.testing.assert_array_equal(labels[0], model.predict(image).labels)


@slow
@pytest.mark.parametrize('options', [
    dict(window_size=3, global_blocks=[1], relative_positions=True),
    dict(window_size=4, shifted_windows=True, conv_blocks=[1]),
    dict(relative_bias='block', class_token=True)], ids=['windows', 'shifted', 'bias'])
def test_positions_and_windows_are_resized_in_the_graph(options: dict[str, Any], tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exported_attention, 'SCORE_BYTES', 2 ** 14)  # attention in parts, which is exact
    torch.manual_seed(0)
    backbone = ViTBackbone(dict(width=16, depth=2, heads=2), image_size=32, patch_size=8, **options)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.1)
    module = EncoderOutputs(backbone.eval().requires_grad_(False)).eval()
    target = ExportTarget(module, (torch.zeros(2, 3, 32, 40),), ('images',), module.output_names,
                          {'images': image_axes(batch=True, size=True, multiple=8, minimum=16)})
    result = write_target(target, tmp_path / 'model.onnx', check=True).verification
    assert result is not None
    assert result.error < 1e-5
    assert len(result.sizes) == 3


@pytest.mark.parametrize(('task', 'options', 'message'), [
    ('classification', dict(argmax=True), '--argmax is for segmenters'),
    ('classification', dict(part='pyramid'), 'has no neck: take --part backbone'),
    ('classification', dict(part='backbone', softmax=True), '--softmax is for whole models'),
    ('classification', dict(size=20), 'size=20,20: both sides must be multiples of 8 pixels'),
    ('segmentation', dict(size=8), 'at least 16')])
def test_what_a_model_does_not_have_is_refused(files, tmp_path: Path, task: str, options: dict, message: str):
    with pytest.raises(ExportError, match=message):
        mae_backbone.export(files[task], tmp_path / 'model.onnx', **options)
    assert list(tmp_path.iterdir()) == []


def test_the_model_itself_is_not_changed(files):
    model = mae_backbone.load(files['segmentation'])
    before = model.predict(IMAGE).labels
    target = build_target(model, ExportOptions(half=True, dynamic=('size',)))
    assert target.inputs[0].shape[0] == 1, 'a batch that is not dynamic is of one image'
    assert target.limit == 2e-2
    assert (model.predict(IMAGE).labels == before).all()
    assert all(parameter.dtype == torch.float32 for parameter in model.net.parameters())


def test_every_kind_of_model_has_a_builder(files):
    assert {type(mae_backbone.load(path)) for path in files.values()} <= set(BUILDERS)


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (6, 6), (3, 1)])
def test_pooling_by_matrices_equals_adaptive_pooling(size: tuple[int, int]):
    module = nn.Sequential(nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(size)))
    replaced = nn.Sequential(nn.Identity(), nn.Sequential(nn.AdaptiveAvgPool2d(size)))
    replace_adaptive_pooling(replaced)
    assert isinstance(replaced[1][0], MatrixPooling)
    for shape in ((2, 3, 8, 11), (1, 3, 4, 5), (2, 1, 13, 7), (1, 2, 2, 2)):
        maps = torch.randn(shape, dtype=torch.double)
        torch.testing.assert_close(replaced(maps), module(maps))
