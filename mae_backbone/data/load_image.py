"""Pipeline transform that loads images for detection and segmentation as `read_image` does."""
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mae_backbone.data.decode import BadImageError, Decoding, decode_bgr
from mae_backbone.data.files import read_file
from mae_backbone.data.readers import BandReader
from mae_backbone.data.reading import Reading, read_pixels, reading_of
from mae_backbone.registry import TRANSFORMS

# Options of mmcv's LoadImageFromFile, with the values for which the result is the same as here.
_MMCV_OPTIONS: dict[str, tuple] = {'type': ('LoadImageFromFile', 'mmcv.LoadImageFromFile', 'mmdet.LoadImageFromFile',
                                            'mmseg.LoadImageFromFile'),
                                   'to_float32': (True, False), 'color_type': ('color', 'color_ignore_orientation'),
                                   'imdecode_backend': ('cv2',), 'file_client_args': (None,),
                                   'ignore_empty': (False,), 'backend_args': (None,)}


# Types of transforms that load an image.
LOADS_IMAGE = (*_MMCV_OPTIONS['type'], 'mae_backbone.LoadImage')


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Loads `results['img_path']` into `results['img']`, (H, W, 3) BGR with 8 bits.

    It replaces mmcv's LoadImageFromFile, and returns the same pixels for images of 8 bits. In addition, it raises an
    error for images above the limit of pixels (before decoding), truncated images and files that are not regular, and
    scales 16 bits as `ColorReader` does.

    With a reader of bands, the image is (H, W, channels) in the order of the reader, and the preprocessor of the model
    must not exchange channels. 16 bits come as float32, which all transforms take. Three channels of 8 bits are taken
    for RGB and come as BGR, as from image files.

    Args:
        value_range, percentiles, max_pixels: as in `ColorReader`.
        ignore_orientation: read images as they are stored, without their EXIF orientation.
        to_float32: convert the pixels to float32.
        reader: config of a reader, such as dict(type='mae_backbone.ArrayReader', channels=5), in place of
            `value_range`, `percentiles` and `max_pixels`.

    Raises:
        BadImageError, OSError: the image cannot be read (when it is loaded).
        ValueError: an argument is out of range.
    """

    def __init__(self, *, value_range: Sequence[int] | None = None, percentiles: Sequence[float] | None = None,
                 max_pixels: int | None = None, ignore_orientation: bool = False, to_float32: bool = False,
                 reader: dict | None = None) -> None:
        low_high = None if value_range is None else (value_range[0], value_range[1])
        between = None if percentiles is None else (percentiles[0], percentiles[1])
        self.decoding = Decoding(low_high, between, max_pixels, ignore_orientation).check()
        self.to_float32 = to_float32
        self.bands: BandReader | None = None
        if reader is not None:
            reading = reading_of(TRANSFORMS.build(dict(reader)))
            if isinstance(reading, Decoding):
                self.decoding = reading
            else:
                self.bands = reading

    def transform(self, results: dict) -> dict:
        """Adds `img`, `img_shape` and `ori_shape`."""
        path = results['img_path']
        if self.bands is not None:
            image = pipeline_input(read_pixels(path, self.bands), self.bands)
            results['img'] = image.astype(np.float32) if self.to_float32 else image
            results['img_shape'] = results['ori_shape'] = image.shape[:2]
            return results
        try:
            image = decode_bgr(read_file(path), self.decoding)
        except BadImageError as error:
            raise BadImageError(f'{path} {error}') from error
        if image.dtype == np.uint16:
            image = self.decoding.to_8_bits(image)
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.bands or self.decoding}, to_float32={self.to_float32})'


def pipeline_input(pixels: np.ndarray, reading: Reading) -> np.ndarray:
    """pixels (H, W, C) as `read_pixels` reads them -> pixels that transforms take: BGR, or bands, uint8 or float32."""
    if isinstance(reading, Decoding) or reading.is_color:
        return np.ascontiguousarray(pixels[..., ::-1])
    return pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)


def with_own_loading(config: Any) -> Any:
    """Copy of a config in which `LoadImage` replaces mmcv's LoadImageFromFile, if its options have the same effect."""
    if isinstance(config, dict):
        if config.get('type') in _MMCV_OPTIONS['type']:
            if all(key in _MMCV_OPTIONS and value in _MMCV_OPTIONS[key] for key, value in config.items()):
                ignores = {'ignore_orientation': True} if 'ignore' in config.get('color_type', '') else {}
                return dict(type='mae_backbone.LoadImage', to_float32=config.get('to_float32', False), **ignores)
            return config
        copied = config.copy()
        for key, value in config.items():
            copied[key] = with_own_loading(value)
        return copied
    if isinstance(config, (list, tuple)):
        return type(config)([with_own_loading(value) for value in config])
    return config
