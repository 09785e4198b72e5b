"""12-bit values in 16-bit files are noticed by measure, check and training, and scaled alike by every reader."""
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.image_files import save
from mmengine.config import ConfigDict

from mae_backbone.data.bit_depth import bit_depth_warning
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.data.decode import DEFAULT, Decoding
from mae_backbone.data.mean_std import measure
from mae_backbone.data.readers import ColorReader
from mae_backbone.data.reading import reading_in
from mae_backbone.data.sources import open_source
from mae_backbone.data.unlabeled import UnlabeledImages
from mae_backbone.formats.files import decode_sample

SCALED = dict(type='mae_backbone.ColorReader', value_range=(0, 4095))


def write(path: Path, largest: int, suffix: str = '.png') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.linspace(0, largest, 48 * 64).round().astype(np.uint16).reshape(48, 64)
    path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """12-bit values in 16-bit PNG and TIFF."""
    for i, suffix in enumerate(('.png', '.tif') * 2):
        write(tmp_path / f'images/a/{i}{suffix}', 4095, suffix)
    return tmp_path / 'images'


def test_12_bits_are_noticed_and_full_range_is_not(tmp_path: Path, images: Path):
    text = bit_depth_warning(sorted((images / 'a').iterdir()))
    assert '4 sampled images have 16 bits, and their largest value is 4,095 (12 bits)' in text
    assert 'value_range=(0, 4095)' in text
    assert bit_depth_warning([write(tmp_path / 'b.png', 65535), *(images / 'a').iterdir()]) == ''
    assert bit_depth_warning([save(tmp_path / 'c.png'), tmp_path / 'gone.png']) == ''


def test_measure_warns_unless_the_reader_scales(images: Path):
    source = open_source(images)
    assert '4,095 (12 bits)' in measure(source, ColorReader()).warning
    scaled = measure(source, ColorReader(value_range=(0, 4095)))
    assert scaled.warning == ''
    assert scaled.mean == pytest.approx([127.5] * 3, abs=1)


def test_training_warns_unless_the_reader_scales(images: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    UnlabeledImages(images, image_size=8, reader=SCALED)
    assert caplog.text == ''
    UnlabeledImages(images, image_size=8)
    assert '4,095 (12 bits)' in caplog.text


def test_labeled_training_warns_unless_the_reader_scales(images: Path, caplog: pytest.LogCaptureFixture):
    files = [str(path) for path in sorted((images / 'a').iterdir())]
    for scaled in (Decoding(value_range=(0, 4095)), Decoding(percentiles=(1, 99))):
        decode_sample('train', files, scaled)
    assert caplog.text == ''
    decode_sample('train', files)
    assert 'train: 4 sampled images have 16 bits' in caplog.text


def test_class_folder_scales_with_its_reader(images: Path):
    plain, scaled = (ClassFolder(images, '', train=False, image_size=16, reader=reader) for reader in (None, SCALED))
    assert plain.pixels(0).max() == 15
    assert scaled.pixels(0).max() == 255
    assert plain.fingerprint() != scaled.fingerprint()
    with pytest.raises(ValueError, match=r'holds no images.*end in \.npy'):
        ClassFolder(images, '', train=False, reader=dict(type='mae_backbone.ArrayReader'))


@pytest.mark.parametrize('dataset', [
    dict(reader=SCALED), dict(dataset=dict(pipeline=[dict(type='mae_backbone.LoadImage', value_range=[0, 4095])]))])
def test_prediction_finds_the_decoding_of_its_config(dataset: dict):
    assert reading_in(ConfigDict(dataset=dataset)) == Decoding(value_range=(0, 4095))
    assert reading_in(ConfigDict(dataset=dict(pipeline=[dict(type='LoadImageFromFile')]))) == DEFAULT
