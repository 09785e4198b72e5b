"""Images a second and core of the loader, against torchvision's transforms on PIL's images with the same crops."""
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
from mae_backbone.benchmark.report import Report, Side, spread, table
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
    """What people write: ImageFolder's reading by PIL, then the transforms of the public MAE code (main_pretrain.py).

    A batch is float32 (B, 3, H, W), normalized. The crop and the flip of a `Draw` are those of `UnlabeledImages`.
    """

    def __init__(self, source: Source, image_size: tuple[int, int]) -> None:
        self.source, self.image_size = source, image_size
        self.parts: Parts = dict.fromkeys(('read', 'decode', 'crop and resize', 'to floats'), 0.0)

    def __getitem__(self, draw: Draw) -> Tensor:
        clock = [time.process_time()]
        flip, *numbers = uniforms([draw.seed], 1 + NUM_UNIFORMS, stream=1)[0]
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
    """-> what was found, and a table of it."""
    report = measure(args.data_root, baseline_root=args.baseline_root, generate=args.generate,
                     image_size=args.image_size, batch_size=args.batch, images=args.images, rounds=args.rounds)
    return report.to_dict(), table(report)


def measure(data_root: str | Path | None = None, *, baseline_root: str | Path | None = None, generate: int = 256,
            image_size: int = 224, batch_size: int = 64, images: int = 512, rounds: int = 5) -> Report:
    """Images a second of one core.

    Both take the same draws in turn, a batch each, in one process with one thread. Seconds are those of the core, and
    of each batch the fastest of `rounds` counts, so that what else the machine does is left out. Then the same through
    a DataLoader with one worker, by the clock on the wall. Memory is that of a fresh process which loads some batches.

    Args:
        data_root: what `open_source` takes; None: photographs are made up, in a temporary folder.
        baseline_root: images that the baseline reads, where data_root are shards made of them. Without, it takes its
            bytes from data_root too.
        generate: how many photographs are made up, of 500x375 pixels.
        image_size, batch_size: of the crops.
        images: how many are loaded in a round, at most.
        rounds: times that each batch is loaded by both.

    Raises:
        ValueError: the two roots hold different numbers of images; and what `open_source` raises.
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
        seconds, ratios = _in_turn(partial(load, ours), partial(load, baseline), draws, rounds)
        walls = _in_turn_in_workers(ours, baseline, draws, rounds)
        parts = _parts_of_ours(ours, draws), _parts_of_baseline(baseline, draws)
        memory = [peak_memory(_prepare, name, str(root), image_size, draws[:4], device=torch.device('cpu'))
                  for name, root in roots.items()]
        machine = describe(torch.device('cpu'))
    number = sum(map(len, draws))
    sides = [Side(number / seconds[i], memory[i], settings(name) | {'data': str(roots[name]), 'images': number},
                  parts[i], {'images_per_second_of_a_worker': number / walls[i]}) for i, name in enumerate(roots)]
    return Report('loader', machine, *sides, ratios)


@contextmanager
def one_thread() -> Iterator[None]:
    """In torch and OpenCV: the measure is images a core."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def load(dataset: Dataset, draws: Sequence[Draw]) -> object:
    """A batch, as a DataLoader asks for it."""
    if isinstance(dataset, PlainImages):
        return default_collate([dataset[draw] for draw in draws])
    return dataset.__getitems__(draws)


def _draws(number: int, batch_size: int, images: int) -> list[list[Draw]]:
    """Whole batches of epochs of shuffled images, until there are enough."""
    batches = PretrainBatchSampler(PretrainSampler(range(number), seed=0), min(batch_size, number), drop_last=True,
                                   rank=0, world_size=1)
    return list(batches)[:max(1, images // batches.batch_size)]


def _in_turn(ours: Callable, baseline: Callable, draws: list[list[Draw]],
             rounds: int) -> tuple[list[float], tuple[float, float]]:
    """Seconds of a core for all batches, ours and the baseline's: of each batch the fastest. And the spread of their
    ratio over the rounds. The first batch of each is not counted."""
    times = np.zeros((rounds, len(draws), 2))
    for make in (ours, baseline):
        make(draws[0])
    for i, j in np.ndindex(rounds, len(draws)):
        for k, make in enumerate((ours, baseline)):
            start = time.process_time()
            make(draws[j])
            times[i, j, k] = time.process_time() - start
    return times.min(axis=0).sum(axis=0).tolist(), spread(*times.sum(axis=1).T.tolist())


def _in_turn_in_workers(ours: Dataset, baseline: Dataset, draws: list[list[Draw]], rounds: int) -> list[float]:
    """Seconds on the wall for all batches by one worker that is running already: the fastest round."""
    loaders = [DataLoader(dataset, batch_sampler=draws, num_workers=1, persistent_workers=True, collate_fn=collate)
               for dataset, collate in ((ours, as_is), (baseline, None))]
    best = [float('inf')] * 2
    for i in range(1 + rounds):  # the first starts the workers
        for k, loader in enumerate(loaders):
            start = time.perf_counter()
            for _ in loader:
                pass
            best[k] = min(best[k], time.perf_counter() - start) if i else best[k]
    return best


def _parts_of_ours(dataset: UnlabeledImages, draws: list[list[Draw]]) -> Parts:
    """Seconds of a core for an image, by clocks around the parts; decoding is what is left."""
    spent = dict.fromkeys(('read', 'header', 'resize'), 0.0)

    def clocked(name: str, function: Callable) -> Callable:
        def call(*args: object, **options: object) -> object:
            start = time.process_time()
            result = function(*args, **options)
            spent[name] += time.process_time() - start
            return result
        return call

    with (mock.patch.object(dataset.source, 'read', clocked('read', dataset.source.read), create=True),
          mock.patch.object(dataset.reader, 'size', clocked('header', dataset.reader.size), create=True),
          mock.patch.object(decode, 'resize', clocked('resize', decode.resize))):
        start = time.process_time()
        for batch in draws:
            dataset.__getitems__(batch)
        total = time.process_time() - start
    spent['decode and the rest'] = total - sum(spent.values())
    return _per_image(spent, draws)


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
    """In a fresh process, for its memory."""
    cv2.setNumThreads(0)
    dataset = (UnlabeledImages(root, image_size=image_size) if name == 'ours' else
               PlainImages(open_source(root), (image_size, image_size)))
    return lambda: [None for batch in draws if load(dataset, batch) is None]


def settings(name: str) -> dict[str, object]:
    """What each side is made of."""
    if name == 'ours':
        return {'decoder': f'simplejpeg {simplejpeg.__version__}, OpenCV {cv2.__version__}',
                'batch': 'uint8 channels last, flip and normalization left to the device'}
    return {'decoder': f'Pillow {PIL.__version__}, torchvision {torchvision.__version__}',
            'batch': 'float32 planes, flipped and normalized'}
