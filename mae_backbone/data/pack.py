"""Packs images into shards: tar files as WebDataset lays them out, read in long stretches and decoded faster."""
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import BinaryIO, TypeVar

import simplejpeg

from mae_backbone.data.decode import BadImageError, decode_crop, image_size
from mae_backbone.data.files import scan
from mae_backbone.data.index import say
from mae_backbone.data.shards import is_image, members
from mae_backbone.data.sources import Source

MANIFEST, BAD_IMAGES, CLASSES = 'manifest.json', 'bad_images.txt', 'classes.txt'
Item = TypeVar('Item')
_PARTS = '.parts'  # what is known of the shards that are done, until all are


@dataclass(frozen=True)
class Packing:
    """How images are packed; with the images it fixes every byte of the shards.

    Args:
        short_side: larger images are made smaller until their shorter side has this many pixels; None keeps all.
        shard_size: images in a shard.
        quality: of what is encoded anew as JPEG, 1 to 100.
        classes: beside each image stands the number of its class (.cls), the first folder of its path.
    """

    short_side: int | None = None
    shard_size: int = 1000
    quality: int = 92
    classes: bool = False

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise ValueError(f'--short-side {self.short_side}, wanted a number of pixels, such as 256')
        if self.shard_size < 1:
            raise ValueError(f'--shard-size {self.shard_size}, wanted a number of images, such as 1000')
        if not 1 <= self.quality <= 100:
            raise ValueError(f'--quality {self.quality}, wanted 1 to 100')


def pack(source: Source, out: str | Path, packing: Packing, *, workers: int = 1) -> dict:
    """Writes all images of a source into shards in `out`; returns the manifest, which is written there too.

    Shards are written beside and renamed. Killed and called again it goes on, and gives the shards, to the last bit,
    of a run that was not killed. Images that cannot be read are left out and listed.

    Raises:
        ValueError: `out` holds something else, or no image can be read.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(packing), 'images': len(source), 'source': _fingerprint(source)}
    done = _done(out, settings)
    if (out / MANIFEST).exists():
        say(f'{out} is packed already')
        _forget_parts(out)
        return json.loads((out / MANIFEST).read_text('utf-8'))
    labels = _labels(source) if packing.classes else None
    if done:
        say(f'goes on: {len(done)} of {-(-len(source) // packing.shard_size)} shards are there')
    for number, record in _written(source, out, packing, labels, done, workers):
        done[number] = record
    records = [done[number] for number in sorted(done)]
    bad = [line for record in records for line in record.pop('bad')]
    if len(bad) == len(source):
        raise ValueError(f'none of the {len(bad)} images could be read, the first one: {" ".join(bad[0])}')
    _write(out / BAD_IMAGES, ''.join(f'{name}\t{reason}\n' for name, reason in bad))
    if labels:
        _write(out / CLASSES, ''.join(f'{name}\n' for name in labels))
    manifest = {'settings': settings, 'images': len(source) - len(bad), 'bad': len(bad), 'shards': records}
    _write(out / MANIFEST, json.dumps(manifest, indent=1))
    _forget_parts(out)
    return manifest


def verify(out: str | Path) -> int:
    """Reads all shards of a folder that `pack` has finished; returns how many images they hold.

    Raises:
        ValueError: a shard is missing or changed, or an image in it cannot be decoded.
    """
    out = Path(out)
    if not (out / MANIFEST).is_file():
        raise ValueError(f'{out} has no {MANIFEST}: it is not packed to the end, run the same command again')
    records, faults = json.loads((out / MANIFEST).read_text('utf-8'))['shards'], []
    for record, _ in _timed(records, lambda record: record['images'], sum(record['images'] for record in records)):
        try:
            _verify_shard(out / record['shard'], record)
        except (OSError, ValueError) as error:
            faults.append(str(error))
    if faults:
        raise ValueError(f'{len(faults)} of {len(records)} shards are not as they were packed:\n  '
                         + '\n  '.join(faults[:5]) + f'\nDelete them and {out / MANIFEST}, and pack again')
    return sum(record['images'] for record in records)


def packed_image(data: bytes, packing: Packing) -> tuple[bytes, bool]:
    """The bytes of an image file -> those that are packed, and whether they were encoded anew, as JPEG.

    Raises:
        BadImageError: they are no image.
    """
    height, width = image_size(data)
    short = min(height, width)
    large = packing.short_side is not None and short > packing.short_side
    if not large and (packing.short_side is None or data[:2] == b'\xff\xd8'):
        decode_crop(data, (0, 0, height, width), (8, 8))
        return data, False
    size = tuple(max(1, round(side * packing.short_side / short)) if large else side for side in (height, width))
    pixels = decode_crop(data, (0, 0, height, width), size)
    try:
        return simplejpeg.encode_jpeg(pixels, quality=packing.quality, colorspace='RGB', colorsubsampling='420'), True
    except ValueError as error:
        raise BadImageError(f'cannot be made a JPEG at {size[0]}x{size[1]} ({error}): remove it') from error


# ---- one shard

def write_shard(source: Source, out: Path, packing: Packing, labels: dict[str, int] | None, number: int) -> dict:
    """Writes a shard and what is known of it; returns that."""
    first = number * packing.shard_size
    path, bad, images = out / f'{number:06}.tar', [], 0
    beside = out / f'.{path.name}.{os.getpid()}.part'
    try:
        with open(beside, 'wb') as file:
            hashed, taken = _Hashed(file), set()
            with tarfile.open(fileobj=hashed, mode='w|', format=tarfile.PAX_FORMAT) as tar:
                for index in range(first, min(first + packing.shard_size, len(source))):
                    try:
                        data, anew = packed_image(source.read(index), packing)
                    except (BadImageError, OSError) as error:
                        bad.append((source.name(index), ' '.join(str(error).split())))
                        continue
                    key, suffix = _key(source.keys[index], index, taken)
                    _add(tar, key + ('.jpg' if anew else suffix), data)
                    if labels:
                        _add(tar, f'{key}.cls', str(labels[_class(source, index)]).encode())
                    images += 1
            file.flush()
            os.fsync(file.fileno())
        record = {'shard': path.name, 'images': images, 'bytes': beside.stat().st_size,
                  'sha256': hashed.sha256.hexdigest(), 'bad': bad}
        _write(out / _PARTS / f'{number:06}.json', json.dumps(record))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return record


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # of nobody, at no time: the same bytes each time
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _key(path: str, index: int, taken: set[str]) -> tuple[str, str]:
    """Path of a file -> its key, one of its own in the shard, and its suffix. To WebDataset a key ends at a dot."""
    *folders, base = [part for part in path.split('/') if part not in ('', '.', '..')]
    stem, suffix = os.path.splitext(base)
    key = '/'.join([*folders, stem.replace('.', '_')])
    if key in taken:
        key = f'{key}-{index}'
    taken.add(key)
    return key, suffix.lower()


class _Hashed:
    """A file that is written, with the hash of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)


def _verify_shard(path: Path, record: dict) -> None:
    sha256, images = hashlib.sha256(), 0
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
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
        raise ValueError(f'{path} holds {images} images, packed were {record["images"]}')


# ---- all shards

def _written(source: Source, out: Path, packing: Packing, labels: dict[str, int] | None, done: dict[int, dict],
             workers: int) -> Iterator[tuple[int, dict]]:
    """Writes the shards that are missing; number of each, and what is known of it, as they are finished."""
    todo = [number for number in range(-(-len(source) // packing.shard_size)) if number not in done]
    left = sum(min(packing.shard_size, len(source) - number * packing.shard_size) for number in todo)

    def images(item: tuple[int, dict]) -> int:
        return item[1]['images'] + len(item[1]['bad'])

    if workers <= 1 or len(todo) == 1:
        results = ((number, write_shard(source, out, packing, labels, number)) for number in todo)
        yield from (item for item, _ in _timed(results, images, left))
        return
    # Not forked from here: OpenCV and torch have threads, which a fork breaks.
    context = multiprocessing.get_context('forkserver')
    theirs, ours = context.Pipe(duplex=False)
    with ours, theirs, ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=_end_with,
                                           initargs=(theirs,)) as pool:
        try:
            jobs = {pool.submit(write_shard, source, out, packing, labels, number): number for number in todo}
            results = ((jobs[job], job.result()) for job in as_completed(jobs))
            yield from (item for item, _ in _timed(results, images, left))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with(other: Connection) -> None:
    """Ends this worker when nobody holds the other end of a pipe any more: who was killed could not tell."""
    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            other.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _timed(items: Iterable[Item], images: Callable[[Item], int], total: int) -> Iterator[tuple[Item, int]]:
    """The items, each with the images until then; says every few seconds how fast it goes and how long it will take."""
    start = said = time.monotonic()
    count = 0
    for item in items:
        count += images(item)
        now = time.monotonic()
        if now - said > 5 and count:
            said, speed = now, count / (now - start)
            say(f'{count:,} of {total:,} images, {speed:,.0f} images/s, {(total - count) / speed / 60:.0f} min left')
        yield item, count


def _done(out: Path, settings: dict) -> dict[int, dict]:
    """What is known of the shards in `out` that are whole. Raises ValueError where `out` holds something else."""
    parts, begun = out / _PARTS, None
    for file in (out / MANIFEST, parts / 'settings.json'):
        if file.exists():
            begun = json.loads(file.read_text('utf-8'))
            begun = begun.get('settings', begun)
            break
    if begun is None:
        if any(True for _ in scan(out)):
            raise ValueError(f'{out} is not empty, and was not begun by this tool: choose another OUT')
        parts.mkdir(exist_ok=True)
        _write(parts / 'settings.json', json.dumps(settings))
    elif begun != settings:
        other = ', '.join(f'{name}={begun.get(name)} then and {settings[name]} now'
                          for name in settings if begun.get(name) != settings[name])
        raise ValueError(f'{out} was begun otherwise ({other}): pack as then, choose another OUT, or delete it')
    for file in out.glob('.*.part'):
        file.unlink(missing_ok=True)
    shards = {int(file.stem): json.loads(file.read_text('utf-8')) for file in parts.glob('[0-9]*.json')}
    return {number: record for number, record in shards.items() if (out / record['shard']).exists()}


def _forget_parts(out: Path) -> None:
    """When all is done: the manifest says what they said."""
    shutil.rmtree(out / _PARTS, ignore_errors=True)


def _fingerprint(source: Source) -> str:
    crc = zlib.crc32(source.keys.ends, zlib.crc32(source.keys.text))
    return f'{crc:08x}'


def _labels(source: Source) -> dict[str, int]:
    names = sorted({_class(source, index) for index in range(len(source))})
    return {name: label for label, name in enumerate(names)}


def _class(source: Source, index: int) -> str:
    folder, _, rest = source.keys[index].partition('/')
    if not rest:
        raise ValueError(f'{source.name(index)} is in no class folder: leave out --classes, or give a folder with a '
                         'folder for each class')
    return folder


def _write(file: Path, text: str) -> None:
    """Beside and renamed: whole or not there."""
    beside = file.with_name(f'.{file.name}.part')
    beside.write_text(text, encoding='utf-8', errors='surrogateescape')
    os.replace(beside, file)
