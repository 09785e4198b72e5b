"""How the bytes of a file become pixels: photographs in colour by default; a config may name another reader."""
from typing import Protocol

import numpy as np

from mae_backbone.data import decode
from mae_backbone.data.decode import Box
from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.registry import TRANSFORMS


class Reader(Protocol):
    """What pretraining asks of a reader; register one of your own with `TRANSFORMS` and name it in the config."""

    channels: int  # of the pixels that it gives
    dtype: np.dtype  # of the pixels that it gives: uint8 or uint16
    suffixes: tuple[str, ...]  # of the files that it can read, in lower case

    def size(self, data: bytes) -> tuple[int, int]:
        """Height and width of the image in a file's bytes. Raises BadImage."""

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        """The part in `box` (top, left, height, width), resized to `size` = (H, W): (H, W, channels).

        It is written into `out` where that is given. Raises BadImage with a message that follows the name of the file.
        """


@TRANSFORMS.register_module()
class ColourReader:
    """Files of any format that OpenCV knows, as viewers show them: 3 channels (RGB), 8 bits."""

    channels = 3
    dtype = np.dtype(np.uint8)
    suffixes = IMAGE_SUFFIXES

    def size(self, data: bytes) -> tuple[int, int]:
        return decode.image_size(data)

    def crop(self, data: bytes, box: Box, size: tuple[int, int], out: np.ndarray | None = None, *,
             interpolation: str = 'bicubic') -> np.ndarray:
        return decode.decode_crop(data, box, size, interpolation=interpolation, out=out)
