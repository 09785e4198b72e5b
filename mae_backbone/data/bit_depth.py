"""Detects 16-bit images that use only a small part of their range, such as 12-bit values."""
from collections.abc import Iterable
from pathlib import Path

from mae_backbone.data.decode import BadImageError, decode_bgr
from mae_backbone.data.files import read_file
from mae_backbone.data.image_header import read_header

NUM_SAMPLED = 16  # images of a data set to decode


class ValueRange:
    """Largest value of 16-bit images.

    Attributes:
        images: number of 16-bit images.
        largest: their largest value.
    """

    def __init__(self) -> None:
        self.images = self.largest = 0

    def add(self, data: bytes) -> None:
        """Takes the content of an image file. Only 16-bit images are decoded; unreadable ones are ignored."""
        header = read_header(data)
        if header is None or header.bits <= 8:
            return
        try:
            pixels = decode_bgr(data)
        except BadImageError:
            return
        if pixels.dtype.itemsize == 2:
            self.images += 1
            self.largest = max(self.largest, int(pixels.max()))

    def warning(self) -> str:
        """A warning if no image uses the upper half of the 16 bits; empty otherwise."""
        if not self.images or self.largest >= 2**15:
            return ''
        bits = max(1, self.largest.bit_length())
        return (f'{self.images} sampled images have 16 bits, and their largest value is {self.largest:,} ({bits} '
                f'bits). They are read as 0 to {self.largest >> 8} of 255, nearly black. Scale them by value_range='
                f'(0, {2**bits - 1}), or by percentiles=(0.5, 99.5), of mae_backbone.ColorReader (pretraining, '
                'classification: dataset.reader) or mae_backbone.LoadImage (detection, segmentation: in place of '
                'LoadImageFromFile)')


def bit_depth_warning(paths: Iterable[str | Path]) -> str:
    """`ValueRange.warning` of some image files."""
    values = ValueRange()
    for path in paths:
        try:
            values.add(read_file(path))
        except OSError:
            continue
    return values.warning()
