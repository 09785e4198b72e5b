"""Reads the size, channels and bits of a TIFF from its header."""
from typing import NamedTuple

_ALPHA = (1, 2)  # ExtraSamples of TIFF 6.0: associated and unassociated alpha
_RGB, _CMYK = 2, 5  # PhotometricInterpretation


class TiffShape(NamedTuple):
    """Size and format of the first image of a TIFF, from its header."""

    width: int
    height: int
    channels: int   # number of channels of the pixels
    bits: int       # bits of a channel after reading: 16 for a file with 12
    has_alpha: bool  # whether the last channel is alpha
    dtype: str      # type of the numbers, such as 'uint16'; 'unknown' if tifffile has none

    @property
    def has_bands(self) -> bool:
        """True if the image is not a gray or color image, with or without alpha."""
        return self.channels - self.has_alpha not in (1, 3)


def tiff_shape(path: str) -> TiffShape | None:
    """Reads the header of a TIFF by tifffile; None if it is not installed, or the file is no TIFF or has CMYK."""
    try:
        import tifffile
    except ImportError:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[0]
            channels, pages = page.samplesperpixel, len(tiff.series[0].pages)
            if page.photometric == _CMYK:
                return None
            extra = tuple(getattr(page, 'extrasamples', ()) or ())
            color = page.photometric == _RGB
            if color and channels == 4 and not extra:  # the tag that describes the fourth channel is missing
                extra = (2,)
            if channels == 1 and 1 < pages <= 16:  # each channel is a separate image
                channels = pages
            bits = 8 * page.dtype.itemsize if page.dtype is not None else page.bitspersample
            dtype = page.dtype.name if page.dtype is not None else 'unknown'
            return TiffShape(page.imagewidth, page.imagelength, channels, bits,
                             bool(extra) and int(extra[-1]) in _ALPHA, dtype)
    except Exception:  # tifffile raises many kinds of errors for broken files
        return None
