"""Images that a user of the page sends: limited, read once, and deleted."""
import os
from pathlib import Path

import numpy as np

from mae_backbone.data.decode import DEFAULT, BadImageError
from mae_backbone.data.files import read_file
from mae_backbone.data.reading import Reading, read_bytes
from mae_backbone.utils.printable import printable

MEGABYTE = 2 ** 20  # as Gradio counts
MAX_MEGABYTES = 50.0  # our choice: of a file; a JPEG of 100 megapixels


def read_upload(path: str | Path, *, max_bytes: int = int(MAX_MEGABYTES * MEGABYTE), reading: Reading = DEFAULT
                ) -> np.ndarray:
    """Reads an uploaded file and deletes it.

    The number of pixels is known from the header before anything is decoded (`data.image_header`).

    Args:
        path: of the file.
        max_bytes: maximum size of the file.
        reading: how the images of the training were read.

    Returns:
        Pixels (H, W, 3) uint8 RGB, or (H, W, channels) of a reader of bands.

    Raises:
        BadImageError: the file is too large, states too many pixels, or is no image. The message has its name only.
        OSError: the file cannot be read.
    """
    name = printable(Path(path).name)
    try:
        size = os.stat(path).st_size
        if size > max_bytes:
            raise BadImageError(f'{name} has {size / MEGABYTE:,.1f} MB, the limit is {max_bytes / MEGABYTE:,.1f} MB: '
                                'make it smaller, or start the page with --max-megabytes')
        return read_bytes(read_file(path), reading)
    except BadImageError as error:
        raise error if str(error).startswith(name) else BadImageError(f'{name} {error}') from None
    finally:
        Path(path).unlink(missing_ok=True)
