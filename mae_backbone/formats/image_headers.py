"""Reads size and EXIF orientation of all images of a data set from the headers of their files."""
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from mae_backbone.data.chunk_orientation import chunk_orientation
from mae_backbone.data.decode import DEFAULT, BadImageError, Decoding, read_image
from mae_backbone.data.files import open_regular
from mae_backbone.data.index import Stamp, kept_table
from mae_backbone.data.jpeg_header import JpegHeader
from mae_backbone.data.reading import Reading, read_pixels
from mae_backbone.data.tiff_header import tiff_shape
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.utils.printable import printable

_ORIENTATION = 0x0112  # tag of EXIF and TIFF
_PREFIX = 2 ** 17  # bytes that are read first. They contain the header of most JPEG files, with the preview of cameras
_NUM_THREADS = 8


class StoredSize(NamedTuple):
    """Size of an image in pixels as it is stored, before its EXIF orientation is applied."""

    width: int
    height: int
    orientation: int = 1  # EXIF orientation, 1..8; 1 means no rotation

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) after the EXIF orientation is applied, as images are read."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_size(path: str, reading: Reading = DEFAULT) -> StoredSize:
    """Reads the size and orientation of an image from its header. With a reader of bands, the image is decoded.

    Raises:
        BadImageError, OSError: the file cannot be read as an image.
    """
    if not isinstance(reading, Decoding):
        height, width = read_pixels(path, reading).shape[:2]
        return StoredSize(width, height)
    with open_regular(path) as file:
        header = JpegHeader.of(file.read(_PREFIX))
    if header:
        return StoredSize(header.width, header.height, header.orientation)
    try:
        with open_regular(path) as file, Image.open(file) as image:
            if isinstance(image, TiffImageFile):  # image.size is the size after the orientation is applied
                width, height, orientation = image.tag_v2[256], image.tag_v2[257], image.tag_v2.get(_ORIENTATION, 1)
            else:
                width, height = image.size
                orientation = image.getexif().get(_ORIENTATION, 1) if image.format in ('JPEG', 'MPO') else 1
                if image.format in ('PNG', 'WEBP'):  # PIL would decode the pixels of a PNG to look behind them
                    file.seek(0)
                    orientation = chunk_orientation(file)
            return StoredSize(width, height, orientation if orientation in range(1, 9) else 1)
    except UnidentifiedImageError:  # OpenCV reads a few formats that PIL does not.
        tiff = tiff_shape(path) if path.lower().endswith(('.tif', '.tiff')) else None
        if tiff is not None:
            return StoredSize(tiff.width, tiff.height)
        height, width, _ = read_image(path).shape
        return StoredSize(width, height)
    except OSError:
        raise
    except Exception as error:  # PIL raises many kinds of errors for broken files
        raise BadImageError(f'{path} cannot be read as an image ({type(error).__name__}: {error})') from error


def read_sizes(split: str, paths: Sequence[str], reading: Reading = DEFAULT) -> dict[str, StoredSize]:
    """Reads the sizes of all images in parallel. For large data sets they are cached on disk until a file changes.

    Raises:
        DataError: some images cannot be read. This is not cached, because the cause may be outside of the files, such
            as a missing permission.
    """
    folder = os.path.dirname(paths[0]) if paths else ''
    digest = hashlib.sha256(os.fsencode('\n'.join(map(os.path.abspath, paths)))).hexdigest()
    how = '' if isinstance(reading, Decoding) else f'\n{reading}'
    table = kept_table(f'image sizes in {folder}\nheaders 2 {digest}{how}', lambda: _build(split, paths, reading))
    rows = np.stack([table[name].astype(int) for name in ('width', 'height', 'orientation')], axis=1).tolist()
    return {path: StoredSize(*row) for path, row in zip(paths, rows, strict=True)}


def _build(split: str, paths: Sequence[str], reading: Reading) -> tuple[dict[str, np.ndarray], list[Stamp]]:
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        results = list(pool.map(partial(_size_or_error, reading=reading), paths, chunksize=1))
    errors = [result for result in results if isinstance(result, Exception)]
    if errors:
        raise DataError(f'{split}: {len(errors):,} of {len(paths):,} images cannot be read: '
                        + '; '.join(printable(str(error)) for error in errors[:3]))
    columns = np.array(results, np.int64).reshape(-1, 3)
    arrays = {'width': columns[:, 0].astype(np.uint32), 'height': columns[:, 1].astype(np.uint32),
              'orientation': columns[:, 2].astype(np.uint32)}
    return arrays, [Stamp.of_file(path) for path in paths if os.path.isfile(path)]


def _size_or_error(path: str, reading: Reading) -> StoredSize | Exception:
    try:
        return read_size(path, reading)
    except (BadImageError, OSError) as error:
        return error
