"""Exported models of multi-band and 16-bit images read and prepare them as the checkpoint does."""
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.model_files import TASKS, model_of
from mmengine.registry import MODELS, DefaultScope

import mae_backbone
from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.readers import ArrayReader
from mae_backbone.export.build import build_target
from mae_backbone.export.options import ExportOptions
from mae_backbone.export.target import ExportError
from mae_backbone.prediction.onnx.description import Description
from mae_backbone.prediction.onnx.predictor import normalize
from mae_backbone.prediction.onnx.prepare import prepare_function

PREPROCESSORS = {'detection': 'mae_backbone.BandDataPreprocessor',
                 'segmentation': 'mae_backbone.BandSegDataPreprocessor',
                 'classification': 'mae_backbone.PixelPreprocessor'}


def pixels_of(channels: int, dtype: str) -> np.ndarray:
    """An image (48, 72, channels) with structures of several sizes."""
    coarse = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (12, 18, channels))
    return coarse.repeat(4, 0).repeat(4, 1).astype(dtype)


def write_bands(task: str, folder: Path, *, channels: int, dtype: str) -> Path:
    """A checkpoint of a small model of images with these channels."""
    cfg, _ = model_of(task, folder)
    reader = dict(type='mae_backbone.ArrayReader', channels=channels, dtype=dtype)
    middle = float(np.iinfo(dtype).max // 2)
    statistics = dict(mean=[middle + i for i in range(channels)], std=[middle / 2 + i for i in range(channels)])
    kept = {name: value for name, value in cfg.model.data_preprocessor.items() if name.startswith('pad')}
    cfg.model.data_preprocessor = dict(type=PREPROCESSORS[task], **statistics, **kept)
    cfg.model.backbone.in_channels = channels
    if task == 'classification':
        cfg.test_dataloader.dataset.reader = reader
    else:
        cfg.test_dataloader.dataset.pipeline[0] = dict(type='mae_backbone.LoadImage', reader=reader)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        torch.manual_seed(1)
        model = MODELS.build(cfg.model)
    if task == 'classification':
        torch.nn.init.normal_(model.head.weight, std=0.3)
    DefaultScope._instance_dict.clear()
    torch.save({'meta': {'cfg': cfg.pretty_text, 'dataset_meta': {'classes': ('a', 'b', 'c', 'd')[:(
        {'detection': 2, 'segmentation': 4, 'classification': 3}[task])]}}, 'state_dict': model.state_dict()},
        folder / 'model.pth')
    return folder / 'model.pth'


@pytest.mark.parametrize('channels', [4, 3, 1])
@pytest.mark.parametrize('task', TASKS)
def test_inputs_are_those_of_the_checkpoint(task: str, channels: int, tmp_path: Path):
    model = mae_backbone.load(write_bands(task, tmp_path, channels=channels, dtype='uint16'))
    description = Description.from_metadata(build_target(model, ExportOptions()).metadata)
    assert (description.channels, description.reader['channels']) == ('', channels)
    assert repr(description.reading()) == repr(model.decoding)
    pixels = pixels_of(channels, 'uint16')
    batch = model.predictor._batch(pixels)
    expected = model.net.data_preprocessor(batch, False)['inputs'][0].numpy()
    found = normalize(description, prepare_function(description, description.reading())(pixels))
    assert found.std() > 0.3
    np.testing.assert_allclose(found, expected[:, :found.shape[1], :found.shape[2]], atol=1e-5)


@pytest.mark.slow  # a conversion to ONNX
@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_pixels_are_normalized_inside(dtype: str, tmp_path: Path):
    model = mae_backbone.load(write_bands('classification', tmp_path, channels=5, dtype=dtype))
    exported = model.export(tmp_path / 'model.onnx', preprocessing=True, verify=True)
    assert exported.verification.error < 1e-5
    pixels = pixels_of(5, dtype)
    expected, found = model.predict(pixels), mae_backbone.load(tmp_path / 'model.onnx').predict(pixels)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert expected.score < 0.99
    assert mae_backbone.info(tmp_path / 'model.onnx').inputs == [f'images {dtype} (batch, 5, height, width)']


def test_a_reader_of_the_user_leads_to_a_reason(tmp_path: Path):
    class Own(ArrayReader):
        pass
    model = mae_backbone.load(write_bands('classification', tmp_path, channels=5, dtype='uint8'))
    model.decoding = Own(5)
    description = Description.from_metadata(build_target(model, ExportOptions()).metadata)
    assert description.prepare == {
        'kind': 'unknown', 'reason': 'its images are read by Own, which is not a reader of this package'}
    with pytest.raises(ExportError, match='--preprocessing: its images are read by Own'):
        build_target(model, ExportOptions(preprocessing=True))
    model.decoding = DEFAULT
    description = Description.from_metadata(build_target(model, ExportOptions()).metadata)
    assert 'takes 5 channels, and its config names no reader' in description.prepare['reason']
