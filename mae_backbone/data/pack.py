"""Packs images into shards: tar files in WebDataset's layout, which are read in long stretches and decode faster."""
import contextlib
import json
import multiprocessing
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeVar

from mae_backbone.data.files import scan
from mae_backbone.data.index import say
from mae_backbone.data.shard_writer import RECORDS, Packing, class_name, verify_shard, write_shard
from mae_backbone.data.sources import Source
from mae_backbone.utils.atomic_write import partial_files, write_text
from mae_backbone.utils.printable import printable

MANIFEST, BAD_IMAGES, CLASSES = 'manifest.json', 'bad_images.txt', 'classes.txt'
_SETTINGS = 'settings.json'  # file in the folder of records
_PROGRESS_SECONDS = 5  # seconds between two lines about the progress
Item = TypeVar('Item')


def pack(source: Source, out: str | Path, packing: Packing, *, workers: int = 1) -> dict:
    """Packs all images of a source into shards in the folder `out`.

    Each shard is written atomically. A run that was killed continues, and its shards are equal, bit for bit,
    to the shards of an uninterrupted run. Unreadable images are left out and listed in `bad_images.txt`.

    Returns:
        The manifest, which is also written to `out`.

    Raises:
        ValueError: `out` contains other files, or no image can be read.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {**asdict(packing), 'images': len(source), 'source': _fingerprint(source)}
    records = _finished(out, settings)
    if (out / MANIFEST).exists():
        say(f'{out} is packed already')
        _remove_records(out)
        return json.loads((out / MANIFEST).read_text('utf-8'))
    labels = _labels(source) if packing.classes else None
    if records:
        say(f'continuing: {len(records)} of {-(-len(source) // packing.shard_size)} shards are finished')
    for number, record in _write_missing(source, out, packing, labels, records, workers):
        records[number] = record
    shards = [records[number] for number in sorted(records)]
    bad = [line for record in shards for line in record.pop('bad')]
    if len(bad) == len(source):
        raise ValueError(f'none of the {len(bad)} images could be read. The first one: {" ".join(bad[0])}')
    _write(out / BAD_IMAGES, ''.join(f'{printable(name)}\t{printable(reason)}\n' for name, reason in bad))
    if labels:
        _write(out / CLASSES, ''.join(f'{name}\n' for name in labels))
    manifest = {'settings': settings, 'images': len(source) - len(bad), 'bad': len(bad), 'shards': shards}
    _write(out / MANIFEST, json.dumps(manifest, indent=1))
    _remove_records(out)
    return manifest


def verify(out: str | Path) -> int:
    """Reads all shards of a folder that `pack` has finished and returns the number of their images.

    Raises:
        ValueError: a shard is missing or changed, or one of its images cannot be decoded.
    """
    out = Path(out)
    if not (out / MANIFEST).is_file():
        raise ValueError(f'{out} has no {MANIFEST}: packing is not finished, run the same command again')
    records, faults = json.loads((out / MANIFEST).read_text('utf-8'))['shards'], []
    for record in _with_progress(records, lambda record: record['images'], sum(record['images'] for record in records)):
        try:
            verify_shard(out / record['shard'], record)
        except (OSError, ValueError) as error:
            faults.append(str(error))
    if faults:
        raise ValueError(f'{len(faults)} of {len(records)} shards have changed since they were packed:\n  '
                         + '\n  '.join(faults[:5]) + f'\nDelete them and {out / MANIFEST}, and pack again')
    return sum(record['images'] for record in records)


def _write_missing(source: Source, out: Path, packing: Packing, labels: dict[str, int] | None,
                   finished: dict[int, dict], workers: int) -> Iterator[tuple[int, dict]]:
    """Writes the missing shards; yields number and record of each when it is finished."""
    todo = [number for number in range(-(-len(source) // packing.shard_size)) if number not in finished]
    total = sum(min(packing.shard_size, len(source) - number * packing.shard_size) for number in todo)

    def images(item: tuple[int, dict]) -> int:
        return item[1]['images'] + len(item[1]['bad'])

    if workers <= 1 or len(todo) == 1:
        results = ((number, write_shard(source, out, packing, labels, number)) for number in todo)
        yield from _with_progress(results, images, total)
        return
    # A fork server, because forking this process would break the threads of OpenCV and torch.
    context = multiprocessing.get_context('forkserver')
    worker_end, own_end = context.Pipe(duplex=False)
    with own_end, worker_end, ProcessPoolExecutor(min(workers, len(todo)), mp_context=context,
                                                  initializer=_end_with_parent, initargs=(worker_end,)) as pool:
        try:
            jobs = {pool.submit(write_shard, source, out, packing, labels, number): number for number in todo}
            results = ((jobs[job], job.result()) for job in as_completed(jobs))
            yield from _with_progress(results, images, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent(worker_end: Connection) -> None:
    """Ends this worker when the parent closes the other end of the pipe, even because it was killed."""
    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            worker_end.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _with_progress(items: Iterable[Item], images: Callable[[Item], int], total: int) -> Iterator[Item]:
    """Yields the items, and prints speed and remaining time every few seconds."""
    start = printed = time.monotonic()
    count = 0
    for item in items:
        count += images(item)
        now = time.monotonic()
        if now - printed > _PROGRESS_SECONDS and count:
            printed, speed = now, count / (now - start)
            say(f'{count:,} of {total:,} images, {speed:,.0f} images/s, {(total - count) / speed / 60:.0f} min left')
        yield item


def _finished(out: Path, settings: dict) -> dict[int, dict]:
    """Records of the finished shards in `out`. Raises ValueError if `out` contains other files."""
    records, previous = out / RECORDS, None
    for file in (out / MANIFEST, records / _SETTINGS):
        if file.exists():
            previous = json.loads(file.read_text('utf-8'))
            previous = previous.get('settings', previous)
            break
    if previous is None:
        if any(True for _ in scan(out)):
            raise ValueError(f'{out} is not empty and was not created by this tool: choose another OUT')
        records.mkdir(exist_ok=True)
        _write(records / _SETTINGS, json.dumps(settings))
    elif previous != settings:
        changes = ', '.join(f'{name}={previous.get(name)} then and {settings[name]} now'
                            for name in settings if previous.get(name) != settings[name])
        raise ValueError(f'{out} was started with other settings ({changes}): use the same ones, choose another OUT, '
                         'or delete it')
    for file in partial_files(out):
        file.unlink(missing_ok=True)
    shards = {int(file.stem): json.loads(file.read_text('utf-8')) for file in records.glob('[0-9]*.json')}
    return {number: record for number, record in shards.items() if (out / record['shard']).exists()}


def _remove_records(out: Path) -> None:
    """Removes the records of the shards, which the manifest contains."""
    shutil.rmtree(out / RECORDS, ignore_errors=True)


def _fingerprint(source: Source) -> str:
    crc = zlib.crc32(source.keys.ends.data, zlib.crc32(source.keys.text.data))
    return f'{crc:08x}'


def _labels(source: Source) -> dict[str, int]:
    names = sorted({class_name(source, index) for index in range(len(source))})
    return {name: label for label, name in enumerate(names)}


def _write(file: Path, text: str) -> None:
    write_text(file, text, errors='surrogateescape')  # names that are not UTF-8
