"""Data loading in images per second of a CPU core, against torchvision's transforms on PIL images."""
import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import cv2
import numpy as np
import simplejpeg
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import mae_backbone
from mae_backbone.benchmark.measurement import describe, peak_memory
from mae_backbone.benchmark.peers.peer import LoaderPeer
from mae_backbone.benchmark.peers.registry import find_peer
from mae_backbone.benchmark.report import Report, Side, round_ratios, table
from mae_backbone.benchmark.synthetic_images import write_photographs
from mae_backbone.data import decode
from mae_backbone.data.batch import as_is
from mae_backbone.data.sampler import Draw, PretrainBatchSampler, PretrainSampler
from mae_backbone.data.unlabeled import UnlabeledImages

Parts = dict[str, float]


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the content of its JSON file, and a table."""
    report = measure(args.data_root, find_peer('loader', args.against, args.peer_root),
                     baseline_root=args.baseline_root, generate=args.generate, image_size=args.image_size,
                     batch_size=args.batch, images=args.images, rounds=args.rounds)
    return report.to_dict(), table(report)


def measure(data_root: str | Path | None = None, peer: LoaderPeer | None = None, *,
            baseline_root: str | Path | None = None, generate: int = 256, image_size: int = 224, batch_size: int = 64,
            images: int = 512, rounds: int = 5) -> Report:
    """Measures images per second of one CPU core.

    Both load the same draws in turn, batch by batch, in one process with one thread. Seconds are CPU time, and of each
    batch the fastest of the rounds counts, which excludes other load of the machine. Then both load through a
    DataLoader with one worker, in wall-clock time. Memory is measured in a fresh process that loads some batches.

    Args:
        data_root: as in `open_source`; None: synthetic images in a temporary folder.
        peer: loader to compare with; None: the plain form.
        baseline_root: images that the baseline reads, if data_root has shards of them; None: it also reads data_root.
        generate: number of synthetic images, of 500x375 pixels.
        image_size, batch_size: of the crops.
        images: largest number of images loaded in a round.
        rounds: number of times that each batch is loaded by both.

    Raises:
        ValueError: the two roots do not hold the same images; and the errors of `open_source`.
    """
    peer = find_peer('loader', 'plain') if peer is None else peer
    if data_root is None:
        with TemporaryDirectory() as folder:
            write_photographs(Path(folder, 'photographs'), generate)
            return measure(folder, peer, image_size=image_size, batch_size=batch_size, images=images, rounds=rounds)
    roots = str(data_root), str(baseline_root or data_root)
    with one_thread():
        ours, baseline = UnlabeledImages(roots[0], image_size=image_size), peer.dataset(roots[1], image_size)
        load_baseline = partial(peer.load_batch, baseline)
        draws = _draws(len(ours), batch_size, images)
        _check_images(ours, peer, baseline, roots, draws[0])
        seconds, ratios = _cpu_seconds(ours.__getitems__, load_baseline, draws, rounds)
        walls = _worker_seconds(ours, Batches(peer, baseline), draws, rounds)
        parts = _parts_of_ours(ours, draws), _parts_of_baseline(baseline, load_baseline, draws)
        cpu = torch.device('cpu')
        memory = [peak_memory(_prepare, roots[0], image_size, draws[:4], device=cpu),
                  peak_memory(_prepare_baseline, peer, roots[1], image_size, draws[:4], device=cpu, imports=peer.load)]
        machine = describe(cpu)
    number = sum(map(len, draws))
    settings = [settings_of_ours(), peer.settings() | {'code': peer.code(), 'crops': 'as ours' if peer.same_crops else
                                                       'its own, of the same distribution'}]
    sides = [Side(number / seconds[i], memory[i], settings[i] | {'data': roots[i], 'images': number},
                  parts[i], {'images_per_second_of_a_worker': number / walls[i]}) for i in (0, 1)]
    return Report('loader', machine, sides[0], sides[1], ratios, against=peer.title)


def _check_images(ours: UnlabeledImages, peer: LoaderPeer, baseline: Any, roots: tuple[str, str],
                  draws: list[Draw]) -> None:
    """Raises ValueError if both sides do not load batches of one size from the same images in the same order."""
    if len(ours) != len(baseline):
        raise ValueError(f'{roots[0]} holds {len(ours)} images and {roots[1]} {len(baseline)} for {peer.title}: they '
                         'must be the same images in the same order')
    if roots[0] == roots[1] and not peer.same_crops:
        for index, name in enumerate(peer.names(baseline)):
            if Path(ours.source.name(index)).name != Path(name).name:
                raise ValueError(f'image {index} is {ours.source.name(index)} for us and {name} for {peer.title}: '
                                 'the order of the files differs, use --against plain')
    shape, expected = tuple(peer.load_batch(baseline, draws).shape), (len(draws), 3, *ours.image_size)
    if shape != expected:
        raise ValueError(f'a batch of {peer.title} is {shape}, expected {expected}: please report this')


class Batches(Dataset):
    """Batches of a peer's data set: a list of draws -> tensors, as a DataLoader without `batch_size` asks for."""

    def __init__(self, peer: LoaderPeer, dataset: Any) -> None:
        self.peer, self.dataset = peer, dataset

    def __getitems__(self, draws: list[Draw]) -> Tensor:
        return self.peer.load_batch(self.dataset, draws)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch and OpenCV to one thread: the unit is images per second and core."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _draws(number: int, batch_size: int, images: int) -> list[list[Draw]]:
    """Complete batches of epochs of shuffled images, until there are enough."""
    batches = PretrainBatchSampler(PretrainSampler(range(number), seed=0), min(batch_size, number), drop_last=True,
                                   rank=0, world_size=1)
    return list(batches)[:max(1, images // batches.batch_size)]


def _cpu_seconds(ours: Callable, baseline: Callable, draws: list[list[Draw]],
                 rounds: int) -> tuple[list[float], tuple[float, ...]]:
    """CPU seconds of both for all batches, the fastest of each batch, and their ratio in each round.

    A first batch of each is loaded before and not counted.
    """
    times = np.zeros((rounds, len(draws), 2))
    for load_batch in (ours, baseline):
        load_batch(draws[0])
    for i, j in np.ndindex(rounds, len(draws)):
        for k, load_batch in enumerate((ours, baseline)):
            start = time.process_time()
            load_batch(draws[j])
            times[i, j, k] = time.process_time() - start
    return times.min(axis=0).sum(axis=0).tolist(), round_ratios(*times.sum(axis=1).T.tolist())


def _worker_seconds(ours: Dataset, baseline: Dataset, draws: list[list[Draw]], rounds: int) -> list[float]:
    """Wall-clock seconds of both for all batches by one worker that is already running, in the fastest round."""
    loaders = [DataLoader(dataset, batch_sampler=draws, num_workers=1, persistent_workers=True, collate_fn=as_is)
               for dataset in (ours, baseline)]
    best = [float('inf')] * 2
    for i in range(1 + rounds):  # the first starts the workers
        for k, loader in enumerate(loaders):
            start = time.perf_counter()
            for _ in loader:
                pass
            if i > 0:
                best[k] = min(best[k], time.perf_counter() - start)
    return best


def _parts_of_ours(dataset: UnlabeledImages, draws: list[list[Draw]]) -> Parts:
    """CPU seconds per image, by clocks around the parts; decoding is the remainder."""
    elapsed = dict.fromkeys(('read', 'header', 'resize'), 0.0)

    def timed(name: str, function: Callable) -> Callable:
        def call(*args: object, **options: object) -> object:
            start = time.process_time()
            result = function(*args, **options)
            elapsed[name] += time.process_time() - start
            return result
        return call

    with (mock.patch.object(dataset.source, 'read', timed('read', dataset.source.read), create=True),
          mock.patch.object(dataset.reader, 'size', timed('header', dataset.reader.size), create=True),
          mock.patch.object(decode, 'resize', timed('resize', decode.resize))):
        start = time.process_time()
        for batch in draws:
            dataset.__getitems__(batch)
        total = time.process_time() - start
    elapsed['decode and the rest'] = total - sum(elapsed.values())
    return _per_image(elapsed, draws)


def _parts_of_baseline(dataset: Any, load_batch: Callable, draws: list[list[Draw]]) -> Parts:
    """The parts that the data set measures itself, if it does; the remainder is the collation."""
    if not hasattr(dataset, 'parts'):
        return {}
    dataset.parts = dict.fromkeys(dataset.parts, 0.0)
    start = time.process_time()
    for batch in draws:
        load_batch(batch)
    total = time.process_time() - start
    return _per_image(dataset.parts | {'collate': total - sum(dataset.parts.values())}, draws)


def _per_image(seconds: Parts, draws: list[list[Draw]]) -> Parts:
    return {name: float(value) / sum(map(len, draws)) for name, value in seconds.items()}


def _prepare(root: str, image_size: int, draws: list[list[Draw]]) -> Callable[[], object]:
    """Prepares loading in a fresh process, whose memory is measured."""
    cv2.setNumThreads(0)
    dataset = UnlabeledImages(root, image_size=image_size)
    return lambda: [None for batch in draws if dataset.__getitems__(batch) is None]


def _prepare_baseline(peer: LoaderPeer, root: str, image_size: int, draws: list[list[Draw]]) -> Callable[[], object]:
    dataset = peer.dataset(root, image_size)
    return lambda: [None for batch in draws if peer.load_batch(dataset, batch) is None]


def settings_of_ours() -> dict[str, object]:
    """Settings of our side, for the table."""
    return {'decoder': f'simplejpeg {simplejpeg.__version__}, OpenCV {cv2.__version__}',
            'batch': 'uint8 channels last, flip and normalization left to the device',
            'code': f'mae_backbone {mae_backbone.__version__}', 'crops': 'drawn by the seed of each image'}
