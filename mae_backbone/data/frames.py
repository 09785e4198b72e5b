"""Number of images in a file: frames of an animation, pages of a TIFF."""
import re
import warnings
from pathlib import Path

_KINDS = re.compile(rb'GIF8|\x89PNG|RIFF....WEBP|II[*+]|MM\0[*+]', re.DOTALL)
_SUBFILE_TYPE = 254  # TIFF tag; its first bit marks a reduced copy of another page (TIFF 6.0 section 8)
_MOST = 1000  # pages of a TIFF that are counted


def num_frames(path: str | Path) -> int:
    """Number of images in a GIF, WebP, PNG or TIFF file. Reduced copies in a TIFF are not counted.

    1 for other files and for files that cannot be read. Readers take the first image.
    """
    try:
        with open(path, 'rb') as file:
            is_known = _KINDS.match(file.read(12)) is not None
        return _counted(path) if is_known else 1
    except Exception:  # PIL raises many kinds of errors for broken files
        return 1


def _counted(path: str | Path) -> int:
    from PIL import Image
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # large images; no pixels are decoded here
        with Image.open(path) as image:
            number = int(getattr(image, 'n_frames', 1))
            if image.format != 'TIFF' or number == 1:
                return number
            count = 0
            for page in range(min(number, _MOST)):
                image.seek(page)
                count += not getattr(image, 'tag_v2', {}).get(_SUBFILE_TYPE, 0) & 1
            return max(count, 1)
