"""Survey of a data set: sizes, classes and errors of all files, and images with drawn labels."""
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.reading import Reading, read_pixels, read_shown
from mae_backbone.formats.data_format import DataFormat
from mae_backbone.formats.dataset_spec import DatasetSpec
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.messages import first_few
from mae_backbone.formats.registry import format_of
from mae_backbone.utils.image_grid import title_bar, to_height
from mae_backbone.utils.printable import printable


def survey(spec: DatasetSpec, *, workers: int = 4,
           progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """Reads every image and every label map of a data set. Returns lines of a report.

    Args:
        spec: settings of the data set.
        workers: number of files that are read in parallel.
        progress: called after each file with the number of files read and their total.

    Raises:
        DataError: the format is unknown, or the files cannot be listed.
    """
    data_format = format_of(spec)
    images, maps = data_format.images(), data_format.label_maps()
    sizes: dict[str, tuple[int, int]] = {}
    errors: list[Exception] = []
    pixel_counts, total = np.zeros(256, np.int64), len(images) + len(maps)
    with ThreadPoolExecutor(workers) as pool:
        reading = pool.map(partial(_size_or_error, data_format.reading), images)
        for done, (path, size) in enumerate(zip(images, reading, strict=True), start=1):
            progress(done, total)
            if isinstance(size, Exception):
                errors.append(size)
            else:
                sizes[path] = size
        counting = pool.map(lambda path: _counts_or_error(data_format, path), maps)
        for done, counts in enumerate(counting, start=len(images) + 1):
            progress(done, total)
            if isinstance(counts, Exception):
                errors.append(counts)
            else:
                pixel_counts += counts
    lines = [f'{len(images):,} images; {_size_ranges(list(sizes.values()))}',
             *_size_mismatches(data_format.stated_sizes(), sizes)]
    if errors:
        lines.append(f'{len(errors):,} files cannot be read: '
                     + '; '.join(printable(str(error)) for error in errors[:5]))
    return [f'{spec.split}: {line}' for line in lines + data_format.statistics(pixel_counts)]


def samples(spec: DatasetSpec, count: int = 8, *, height: int = 256) -> list[np.ndarray]:
    """Draws the labels of some evenly spaced images. Images that cannot be read are skipped.

    Args:
        spec: settings of the data set.
        count: number of images.
        height: height in pixels to which images are resized.

    Returns:
        Images (height + 24, W, 3) uint8 RGB with labels, and a title of 24 pixels.
    """
    data_format = format_of(spec)
    pictures = []
    paths = evenly_spaced(data_format.images(), count)
    data_format.read_labels(paths)
    for path in paths:
        try:
            picture = to_height(data_format.draw(read_shown(path, data_format.reading), path), height)
        except (BadImageError, OSError):
            continue
        pictures.append(np.concatenate([title_bar(os.path.basename(path), picture.shape[1]), picture]))
    return pictures


# The threads read all files without waiting for the loops that use the results. Therefore these functions return only
# sizes and counts: pixels of all images would not fit into memory.

def _size_or_error(reading: Reading, path: str) -> tuple[int, int] | Exception:
    """Decodes a whole image. Returns its (width, height), or the error that it raises."""
    try:
        height, width, _ = read_pixels(path, reading).shape
    except (BadImageError, OSError) as error:
        return error
    return width, height


def _counts_or_error(data_format: DataFormat, path: str) -> np.ndarray | Exception:
    """Returns the number of pixels (256,) of each label of a label map, or the error that reading it raises."""
    try:
        return data_format.count_pixels(path)
    except (BadImageError, OSError) as error:
        return error


def _size_ranges(sizes: Sequence[tuple[int, int]]) -> str:
    if not sizes:
        return 'none can be read'
    widths, heights = np.array(sizes).T
    return ', '.join(f'{name} {values.min()} to {values.max()} pixels (median {np.median(values):.0f})'
                     for name, values in (('width', widths), ('height', heights)))


def _size_mismatches(stated: dict[str, tuple[float, float]], sizes: dict[str, tuple[int, int]]) -> list[str]:
    """Counts the images whose size differs from the size in their annotations."""
    wrong = [f'{os.path.basename(path)}: {stated[path][0]}x{stated[path][1]} stated, {size[0]}x{size[1]} read'
             for path, size in sizes.items() if path in stated and stated[path] != size]
    return [f'{len(wrong):,} images have another size than the annotation file states, so that boxes do not fit '
            f'({first_few(wrong)})'] if wrong else []
