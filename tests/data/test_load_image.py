"""Pipelines of detection and segmentation load images like every other reader."""
import os
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from helpers.image_files import photograph, ramp, save
from mmengine.config import ConfigDict
from mmengine.registry import TRANSFORMS

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.image_header import SETTING
from mae_backbone.data.load_image import LoadImage, with_own_loading
from mae_backbone.data.reading import read_pixels, reading_in
from mae_backbone.engine.runner import Runner


def load(path: Path, **options: object) -> np.ndarray:
    return TRANSFORMS.build(dict(type='mae_backbone.LoadImage', **options))(dict(img_path=str(path)))['img']


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.bmp', '.webp'])
@pytest.mark.parametrize('gray', [False, True])
def test_pixels_equal_mmcv(tmp_path: Path, suffix: str, gray: bool):
    pixels = photograph(40, 60)
    path = save(tmp_path / f'a{suffix}', pixels[..., 0] if gray else pixels)
    assert (load(path) == mmcv.imfrombytes(path.read_bytes())).all()
    assert load(path, to_float32=True).dtype == np.float32


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_orientation_equals_mmcv(tmp_path: Path, orientation: int):
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / 'a.jpg', ramp(), exif=exif)
    assert (load(path) == mmcv.imfrombytes(path.read_bytes())).all()


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif', '.webp'])
def test_orientation_is_ignored_as_by_mmcv(tmp_path: Path, suffix: str):
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / f'a{suffix}', ramp(), exif=exif)
    config = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    loaded = TRANSFORMS.build(with_own_loading(config))
    assert isinstance(loaded, LoadImage)
    pixels = loaded(dict(img_path=str(path)))['img']
    assert (pixels == mmcv.imfrombytes(path.read_bytes(), flag='color_ignore_orientation')).all()
    for part in (config, with_own_loading(config), dict(type='LoadImageFromFile', color_type='unchanged')):
        assert (read_pixels(path, reading_in([part])) == pixels[..., ::-1]).all(), 'predict reads as the pipeline does'


def test_shapes_are_added(tmp_path: Path):
    results = LoadImage()(dict(img_path=str(save(tmp_path / 'a.png'))))
    assert results['img_shape'] == results['ori_shape'] == (48, 64)


def test_12_bits_are_scaled(tmp_path: Path):
    path = str(tmp_path / 'a.png')
    assert cv2.imwrite(path, np.linspace(0, 4095, 48 * 64).astype(np.uint16).reshape(48, 64))
    assert load(path).max() == 15
    assert load(path, value_range=[0, 4095]).max() == 255
    assert load(path, percentiles=[1, 99]).max() == 255


def test_bad_files_raise_with_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SETTING, '1000')
    with pytest.raises(BadImageError, match=r'a\.png states 48x64 pixels'):
        load(save(tmp_path / 'a.png'))
    os.mkfifo(tmp_path / 'pipe.png')
    with pytest.raises(OSError, match=r'pipe\.png is a named pipe'):
        load(tmp_path / 'pipe.png')


def test_mmcv_transform_is_replaced_in_all_pipelines():
    own = dict(type='mae_backbone.LoadImage', to_float32=False)
    config = ConfigDict(type='RepeatDataset', dataset=dict(pipeline=[
        dict(type='LoadImageFromFile', backend_args=None), dict(type='RandomFlip', prob=0.5),
        dict(type='TestTimeAug', transforms=[[dict(type='mmcv.LoadImageFromFile', to_float32=True)]])]))
    result = with_own_loading(config)
    pipeline = result.dataset.pipeline
    assert pipeline[0] == own
    assert pipeline[1] == config.dataset.pipeline[1]
    assert pipeline[2].transforms[0][0] == own | dict(to_float32=True)
    assert config.dataset.pipeline[0].type == 'LoadImageFromFile'


@pytest.mark.parametrize('options', [dict(color_type='unchanged'), dict(imdecode_backend='pillow'),
                                     dict(backend_args=dict(backend='petrel')), dict(ignore_empty=True)], ids=str)
def test_other_options_keep_the_transform_of_mmcv(options: dict):
    config = dict(type='LoadImageFromFile', **options)
    assert with_own_loading([config]) == [config]


def test_runner_loads_with_it(tmp_path: Path):
    from mmengine.dataset import BaseDataset
    from mmengine.registry import DATASETS

    @DATASETS.register_module(force=True)
    class OneImage(BaseDataset):
        def load_data_list(self) -> list[dict]:
            return [dict(img_path=str(tmp_path / 'a.png'))]

    save(tmp_path / 'a.png')
    loader = Runner.build_dataloader(dict(
        dataset=dict(type='OneImage', pipeline=[dict(type='LoadImageFromFile')]), batch_size=1, num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False)))
    assert isinstance(loader.dataset.pipeline.transforms[0], LoadImage)
    assert next(iter(loader))['img'][0].shape == (48, 64, 3)
