"""Data loading in images per second of a CPU core, against torchvision's transforms on PIL images, same crops."""
import argparse
import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import cv2
import numpy as np
import PIL
import simplejpeg
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import functional as F

from mae_backbone.benchmark.measurement import describe, peak_memory
from mae_backbone.benchmark.report import Report, Side, ratio_spread, table
from mae_backbone.benchmark.synthetic_images import write_photographs
from mae_backbone.data import decode
from mae_backbone.data.batch import as_is
from mae_backbone.data.counter_rng import uniforms
from mae_backbone.data.crops import NUM_UNIFORMS, random_box
from mae_backbone.data.sampler import Draw, PretrainBatchSampler, PretrainSampler
from mae_backbone.data.sources import Source, open_source
from mae_backbone.data.unlabeled import UnlabeledImages

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Parts = dict[str, float]


class PlainImages(Dataset):
    """Reference data set: PIL as in torchvision's ImageFolder, then the transforms of MAE's `main_pretrain.py`.

    A batch is float32 (B, 3, H, W), normalized. A `Draw` gives the same crop and flip as in `UnlabeledImages`.
    """

    def __init__(self, source: Source, image_size: tuple[int, int]) -> None:
        self.source, self.image_size = source, image_size
        self.parts: Parts = dict.fromkeys(('read', 'decode', 'crop and resize', 'to floats'), 0.0)

    def __getitem__(self, draw: Draw) -> Tensor:
        clock = [time.process_time()]
        flip, *numbers = uniforms(np.array([draw.seed]), 1 + NUM_UNIFORMS, stream=1)[0]
        data = self.source.read(draw.index)
        clock.append(time.process_time())
        image = Image.open(io.BytesIO(data)).convert('RGB')
        clock.append(time.process_time())
        box = random_box(image.height, image.width, numbers, (0.2, 1.0))
        image = F.resized_crop(image, *box, list(self.image_size), F.InterpolationMode.BICUBIC)
        image = F.hflip(image) if flip < 0.5 else image
        clock.append(time.process_time())
        image = F.normalize(F.to_tensor(image), MEAN, STD)
        clock.append(time.process_time())
        for name, seconds in zip(self.parts, np.diff(clock), strict=True):
            self.parts[name] += seconds
        return image


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the content of its JSON file, and a table."""
    report = measure(args.data_root, baseline_root=args.baseline_root, generate=args.generate,
                     image_size=args.image_size, batch_size=args.batch, images=args.images, rounds=args.rounds)
    return report.to_dict(), table(report)


def measure(data_root: str | Path | None = None, *, baseline_root: str | Path | None = None, generate: int = 256,
            image_size: int = 224, batch_size: int = 64, images: int = 512, rounds: int = 5) -> Report:
    """Measures images per second of one CPU core.

    Both load the same draws in turn, batch by batch, in one process with one thread. Seconds are CPU time, and of each
    batch the fastest of the rounds counts, which excludes other load of the machine. Then both load through a
    DataLoader with one worker, in wall-clock time. Memory is measured in a fresh process that loads some batches.

    Args:
        data_root: as in `open_source`; None: synthetic images in a temporary folder.
        baseline_root: images that the baseline reads, if data_root holds shards of them; None: it reads data_root too.
        generate: number of synthetic images, of 500x375 pixels.
        image_size, batch_size: of the crops.
        images: largest number of images loaded in a round.
        rounds: number of times that each batch is loaded by both.

    Raises:
        ValueError: the two roots hold different numbers of images; and the errors of `open_source`.
    """
    if data_root is None:
        with TemporaryDirectory() as folder:
            write_photographs(folder, generate)
            return measure(folder, image_size=image_size, batch_size=batch_size, images=images, rounds=rounds)
    roots = {'ours': data_root, 'baseline': baseline_root or data_root}
    with one_thread():
        ours, baseline = UnlabeledImages(roots['ours'], image_size=image_size), PlainImages(
            open_source(roots['baseline']), (image_size, image_size))
        if len(ours) != len(baseline.source):
            raise ValueError(f'{data_root} holds {len(ours)} images and {baseline_root} {len(baseline.source)}: they '
                             'must be the same images in the same order')
        draws = _draws(len(ours), batch_size, images)
        seconds, ratios = _cpu_seconds(partial(load, ours), partial(load, baseline), draws, rounds)
        walls = _worker_seconds(ours, baseline, draws, rounds)
        parts = _parts_of_ours(ours, draws), _parts_of_baseline(baseline, draws)
        memory = [peak_memory(_prepare, name, str(root), image_size, draws[:4], device=torch.device('cpu'))
                  for name, root in roots.items()]
        machine = describe(torch.device('cpu'))
    number = sum(map(len, draws))
    sides = [Side(number / seconds[i], memory[i], settings(name) | {'data': str(roots[name]), 'images': number},
                  parts[i], {'images_per_second_of_a_worker': number / walls[i]}) for i, name in enumerate(roots)]
    return Report('loader', machine, sides[0], sides[1], ratios)


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


def load(dataset: PlainImages | UnlabeledImages, draws: Sequence[Draw]) -> object:
    """Loads a batch as a DataLoader does."""
    if isinstance(dataset, PlainImages):
        return default_collate([dataset[draw] for draw in draws])
    return dataset.__getitems__(draws)


def _draws(number: int, batch_size: int, images: int) -> list[list[Draw]]:
    """Complete batches of epochs of shuffled images, until there are enough."""
    batches = PretrainBatchSampler(PretrainSampler(range(number), seed=0), min(batch_size, number), drop_last=True,
                                   rank=0, world_size=1)
    return list(batches)[:max(1, images // batches.batch_size)]


def _cpu_seconds(ours: Callable, baseline: Callable, draws: list[list[Draw]],
                 rounds: int) -> tuple[list[float], tuple[float, float]]:
    """CPU seconds of both for all batches, the fastest of each batch, and the spread of their ratio over the rounds.

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
    return times.min(axis=0).sum(axis=0).tolist(), ratio_spread(*times.sum(axis=1).T.tolist())


def _worker_seconds(ours: Dataset, baseline: Dataset, draws: list[list[Draw]], rounds: int) -> list[float]:
    """Wall-clock seconds of both for all batches by one worker that is already running, in the fastest round."""
    loaders = [DataLoader(dataset, batch_sampler=draws, num_workers=1, persistent_workers=True, collate_fn=collate)
               for dataset, collate in ((ours, as_is), (baseline, None))]
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


def _parts_of_baseline(dataset: PlainImages, draws: list[list[Draw]]) -> Parts:
    dataset.parts = dict.fromkeys(dataset.parts, 0.0)
    start = time.process_time()
    for batch in draws:
        load(dataset, batch)
    total = time.process_time() - start
    return _per_image(dataset.parts | {'collate': total - sum(dataset.parts.values())}, draws)


def _per_image(seconds: Parts, draws: list[list[Draw]]) -> Parts:
    return {name: float(value) / sum(map(len, draws)) for name, value in seconds.items()}


def _prepare(name: str, root: str, image_size: int, draws: list[list[Draw]]) -> Callable[[], object]:
    """Prepares loading in a fresh process, whose memory is measured."""
    cv2.setNumThreads(0)
    dataset = (UnlabeledImages(root, image_size=image_size) if name == 'ours' else
               PlainImages(open_source(root), (image_size, image_size)))
    return lambda: [None for batch in draws if load(dataset, batch) is None]


def settings(name: str) -> dict[str, object]:
    """Settings of a side, for the table."""
    if name == 'ours':
        return {'decoder': f'simplejpeg {simplejpeg.__version__}, OpenCV {cv2.__version__}',
                'batch': 'uint8 channels last, flip and normalization left to the device'}
    return {'decoder': f'Pillow {PIL.__version__}, torchvision {torchvision.__version__}',
            'batch': 'float32 planes, flipped and normalized'}
