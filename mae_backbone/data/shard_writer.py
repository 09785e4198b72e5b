"""Writes and verifies one shard: a tar file of images in WebDataset's layout."""
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import cv2

from mae_backbone.data.decode import BadImageError, decode_crop, image_size
from mae_backbone.data.jpeg_cut import restart_interval
from mae_backbone.data.shards import is_image, members
from mae_backbone.data.sources import Source
from mae_backbone.utils.atomic_write import atomic_path, write_text

RECORDS = '.parts'  # folder with a record of each finished shard; removed when all shards are finished
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Packing:
    """Options of packing. With the images they determine every byte of the shards.

    Args:
        short_side: larger images are reduced until their shorter side has this many pixels; None keeps all sizes.
        shard_size: images per shard.
        quality: quality of images that are encoded again as JPEG, 1 to 100.
        classes: store the class of each image next to it (.cls), the first folder of its path.

    Raises:
        ValueError: an option is out of range.
    """

    short_side: int | None = None
    shard_size: int = 1000
    quality: int = 92
    classes: bool = False

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f'--short-side {self.short_side}, expected a number of pixels, such as 256')
        if self.shard_size < 1:
            raise ValueError(f'--shard-size {self.shard_size}, expected a number of images, such as 1000')
        if not 1 <= self.quality <= 100:
            raise ValueError(f'--quality {self.quality}, expected 1 to 100')


def write_shard(source: Source, out: Path, packing: Packing, labels: dict[str, int] | None, number: int) -> dict:
    """Writes a shard and its record.

    Args:
        source: all images.
        out: folder of the shards, with the folder of records in it.
        packing: options.
        labels: number of each class, None without classes.
        number: number of the shard.

    Returns:
        The record: dict(shard=file name, images=int, bytes=int, sha256=str, bad=[(name, reason)]).
    """
    first = number * packing.shard_size
    path, bad, images = out / f'{number:06}.tar', [], 0
    with atomic_path(path, durable=True) as temporary:
        with open(temporary, 'wb') as file:
            hashed = _HashingFile(file)
            keys: set[str] = set()
            with tarfile.open(fileobj=cast(BinaryIO, hashed), mode='w|', format=tarfile.PAX_FORMAT) as tar:
                for index in range(first, min(first + packing.shard_size, len(source))):
                    try:
                        data, is_encoded = packed_image(source.read(index), packing)
                    except (BadImageError, OSError) as error:
                        bad.append((source.name(index), ' '.join(str(error).split())))
                        continue
                    key, suffix = _key(source.keys[index], index, keys)
                    _add(tar, key + ('.jpg' if is_encoded else suffix), data)
                    if labels:
                        _add(tar, f'{key}.cls', str(labels[class_name(source, index)]).encode())
                    images += 1
        record = {'shard': path.name, 'images': images, 'bytes': temporary.stat().st_size,
                  'sha256': hashed.sha256.hexdigest(), 'bad': bad}
        # The record is written before the shard gets its name, so that no shard without a record can exist.
        write_text(out / RECORDS / f'{number:06}.json', json.dumps(record), errors='surrogateescape')
    return record


def verify_shard(path: Path, record: dict) -> None:
    """Reads a shard completely. Raises ValueError if it differs from its record, OSError if it cannot be read."""
    sha256, images = hashlib.sha256(), 0
    with open(path, 'rb') as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
        if sha256.hexdigest() != record['sha256']:
            raise ValueError(f'{path} has changed since it was packed')
        for member in members(path):
            if is_image(member.name):
                file.seek(member.offset)
                data = file.read(member.size)
                try:
                    decode_crop(data, (0, 0, *image_size(data)), (8, 8))
                except BadImageError as error:
                    raise ValueError(f'{path}/{member.name} {error}') from error
                images += 1
    if images != record['images']:
        raise ValueError(f'{path} holds {images} images, {record["images"]} were packed')


def packed_image(data: bytes, packing: Packing) -> tuple[bytes, bool]:
    """content of an image file -> content to pack, and whether it was encoded again as JPEG.

    Raises:
        BadImageError: it is not a readable image.
    """
    height, width = image_size(data)
    short = min(height, width)
    target = short if packing.short_side is None else min(short, packing.short_side)
    if target == short and (packing.short_side is None or data[:2] == b'\xff\xd8'):
        decode_crop(data, (0, 0, height, width), (8, 8))  # raises for damaged files
        return data, False
    size = max(1, round(height * target / short)), max(1, round(width * target / short))
    pixels = decode_crop(data, (0, 0, height, width), size)
    settings = (cv2.IMWRITE_JPEG_QUALITY, packing.quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, cv2.IMWRITE_JPEG_RST_INTERVAL, restart_interval(size[1]))
    try:
        encoded = cv2.imencode('.jpg', cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)[1]
    except cv2.error as error:
        raise BadImageError(f'cannot be encoded as JPEG at {size[0]}x{size[1]} ({error.err}): remove it') from error
    return encoded.tobytes(), True


def class_name(source: Source, index: int) -> str:
    """Class of an image: the first folder of its path. Raises ValueError if it is in none."""
    folder, _, rest = source.keys[index].partition('/')
    if not rest:
        raise ValueError(f'{source.name(index)} is not in a class folder: omit --classes, or give a folder that has a '
                         'folder for each class')
    return folder


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # without owner and time, so that the bytes are reproducible
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _key(path: str, index: int, keys: set[str]) -> tuple[str, str]:
    """path of a file -> key, unique in the shard, and suffix. In WebDataset a key ends at the first dot."""
    *folders, base = [name for name in path.split('/') if name not in ('', '.', '..')]
    stem, suffix = os.path.splitext(base)
    key = '/'.join([*folders, stem.replace('.', '_')])
    if key in keys:
        key = f'{key}-{index}'
    keys.add(key)
    return key, suffix.lower()


class _HashingFile:
    """A file that computes the hash of the bytes written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)
