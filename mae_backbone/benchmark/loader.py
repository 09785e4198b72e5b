"""Images a second and core of the loader, against torchvision's transforms on PIL's images with the same crops."""
import argparse
import io
import multiprocessing
import multiprocessing.connection
import os
import resource
import time
from collections.abc import Callable, Sequence
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

from mae_backbone.benchmark.photographs import write_photographs
from mae_backbone.data import decode
from mae_backbone.data.batch import as_is
from mae_backbone.data.chance import uniforms
from mae_backbone.data.crops import CHANCES, random_box
from mae_backbone.data.sampler import Draw, PretrainBatchSampler, PretrainSampler
from mae_backbone.data.sources import Source, open_source
from mae_backbone.data.unlabelled import UnlabelledImages

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Parts = dict[str, float]


class PlainImages(Dataset):
    """What people write: ImageFolder's reading by PIL, then the transforms of the public MAE code (main_pretrain.py).

    A batch is float32 (B, 3, H, W), normalised. The crop and the flip of a `Draw` are those of `UnlabelledImages`.
    """

    def __init__(self, source: Source, image_size: tuple[int, int]) -> None:
        self.source, self.image_size = source, image_size
        self.parts: Parts = dict.fromkeys(('read', 'decode', 'crop and resize', 'to floats'), 0.0)

    def __getitem__(self, draw: Draw) -> Tensor:
        clock = [time.process_time()]
        flip, *chances = uniforms([draw.seed], 1 + CHANCES, stream=1)[0]
        data = self.source.read(draw.index)
        clock.append(time.process_time())
        image = Image.open(io.BytesIO(data)).convert('RGB')
        clock.append(time.process_time())
        box = random_box(image.height, image.width, chances, (0.2, 1.0))
        image = F.resized_crop(image, *box, list(self.image_size), F.InterpolationMode.BICUBIC)
        image = F.hflip(image) if flip < 0.5 else image
        clock.append(time.process_time())
        image = F.normalize(F.to_tensor(image), MEAN, STD)
        clock.append(time.process_time())
        for name, seconds in zip(self.parts, np.diff(clock), strict=True):
            self.parts[name] += seconds
        return image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument('--data-root', metavar='DIR', help='images or shards; without it photographs are made up')
    parser.add_argument('--baseline-root', metavar='DIR', help='the images that the shards of --data-root were made of')
    parser.add_argument('--image-size', type=int, default=224, help='side of the crops (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=64, help='default: %(default)s')
    parser.add_argument('--images', type=int, default=512, help='how many in a round, at most (default: %(default)s)')
    parser.add_argument('--rounds', type=int, default=5, help='each loads all by both sides (default: %(default)s)')


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """-> what was found, and a table of it."""
    found = measure(args.data_root, baseline_root=args.baseline_root, image_size=args.image_size, batch_size=args.batch,
                    images=args.images, repeats=args.rounds)
    return found, '\n'.join(lines(found))


def measure(data_root: str | Path | None, *, baseline_root: str | Path | None = None, generate: int = 256,
            image_size: int = 224, batch_size: int = 64, images: int = 512, repeats: int = 5) -> dict:
    """The table's numbers, under the keys `ours`, `baseline` and `ratio`.

    Both take the same draws in turn, a batch each, in one process with one thread. Seconds are those of the core, and
    of each batch the fastest of `repeats` counts, so that what else the machine does is left out. Then the same through
    a DataLoader with one worker, by the clock on the wall. Peak memory is that of a fresh process which loads a few
    batches, libraries included.

    Args:
        data_root: what `open_source` takes; None: photographs are made up, in a temporary folder.
        baseline_root: folder that the baseline reads, where data_root are shards made of it. Without, it takes its
            bytes from data_root too.
        generate: how many photographs are made up, of 500x375 pixels.
        image_size, batch_size: of the crops.
        images: how many are loaded in each repeat, at most.
        repeats: of each batch.
    """
    if data_root is None:
        with TemporaryDirectory() as folder:
            write_photographs(folder, generate)
            report = measure(folder, image_size=image_size, batch_size=batch_size, images=images, repeats=repeats)
        report['data'] = f'{generate} photographs made up, 500x375'
        return report
    makers = {'ours': partial(_ours, data_root, image_size),
              'baseline': partial(_baseline, baseline_root or data_root, image_size)}
    with one_thread():
        ours, baseline = (make() for make in makers.values())
        if len(ours) != len(baseline.source):
            raise ValueError(f'{data_root} holds {len(ours)} images and {baseline_root} {len(baseline.source)}: they '
                             'must be the same images in the same order')
        draws = _draws(len(ours), batch_size, images)
        seconds = _in_turn({'ours': ours.__getitems__, 'baseline': partial(_load, baseline)}, draws, repeats)
        in_worker = _in_turn_in_workers({'ours': ours, 'baseline': baseline}, draws, repeats)
        parts = {'ours': _parts_of_ours(ours, draws), 'baseline': _parts_of_baseline(baseline, draws)}
    number = sum(map(len, draws))
    report = {name: dict(
        throughput=number / seconds[name], throughput_worker=number / in_worker[name],
        peak_memory=_peak_memory(maker, draws[:4]), ms_per_image=parts[name], settings=_settings(name))
        for name, maker in makers.items()}
    report['ratio'] = dict(
        throughput=report['ours']['throughput'] / report['baseline']['throughput'],
        throughput_worker=report['ours']['throughput_worker'] / report['baseline']['throughput_worker'],
        memory=report['ours']['peak_memory'] / report['baseline']['peak_memory'])
    same = 'the same bytes' if baseline_root is None else str(baseline_root)
    return report | dict(data=f'{data_root}, {len(ours)} images; the baseline reads {same}', image_size=image_size,
                         batch_size=batch_size, images=number, repeats=repeats)


def lines(report: dict) -> list[str]:
    """The report of `measure` as a table."""
    rows = [f'loader: {report["data"]}; {report["image_size"]} pixels, one core',
            f'{"":26}{"ours":>12}{"baseline":>12}{"ratio":>8}']
    for title, key, unit in (('images/s in the process', 'throughput', 1), ('images/s of one worker',
                             'throughput_worker', 1), ('peak memory, MB', 'peak_memory', 1e6)):
        values = [report[name][key] / unit for name in ('ours', 'baseline')]
        rows.append(f'{title:26}{values[0]:12.1f}{values[1]:12.1f}{values[0] / values[1]:8.2f}')
    for name in ('ours', 'baseline'):
        parts = ', '.join(f'{part} {ms:.2f}' for part, ms in report[name]['ms_per_image'].items())
        rows.append(f'{name}, ms an image: {parts}')
    return rows


@contextmanager
def one_thread():
    """In torch and OpenCV: the measure is images a core."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def _ours(data_root: str | Path, image_size: int) -> UnlabelledImages:
    return UnlabelledImages(data_root, image_size=image_size)


def _baseline(data_root: str | Path, image_size: int) -> PlainImages:
    return PlainImages(open_source(data_root), (image_size, image_size))


def _load(dataset: PlainImages, draws: Sequence[Draw]) -> Tensor:
    return default_collate([dataset[draw] for draw in draws])


def _draws(number: int, batch_size: int, images: int) -> list[list[Draw]]:
    """Whole batches of epochs of shuffled images, until there are enough."""
    batches = PretrainBatchSampler(PretrainSampler(range(number), seed=0), min(batch_size, number), drop_last=True,
                                   rank=0, world_size=1)
    return list(batches)[:max(1, images // batches.batch_size)]


def _in_turn(loaders: dict[str, Callable], draws: list[list[Draw]], repeats: int) -> dict[str, float]:
    """Seconds of a core for all batches: of each batch the fastest time, after one that is not counted."""
    best = {name: [float('inf')] * len(draws) for name in loaders}
    for load in loaders.values():
        load(draws[0])
    for _ in range(repeats):
        for i, batch in enumerate(draws):
            for name, load in loaders.items():
                start = time.process_time()
                load(batch)
                best[name][i] = min(best[name][i], time.process_time() - start)
    return {name: sum(times) for name, times in best.items()}


def _in_turn_in_workers(datasets: dict[str, Dataset], draws: list[list[Draw]], repeats: int) -> dict[str, float]:
    """Seconds for all batches by one worker that is running already: the fastest pass."""
    loaders = {name: DataLoader(dataset, batch_sampler=draws, num_workers=1, persistent_workers=True,
                                collate_fn=as_is if name == 'ours' else None) for name, dataset in datasets.items()}
    best = dict.fromkeys(loaders, float('inf'))
    for turn in range(1 + repeats):  # the first starts the workers
        for name, loader in loaders.items():
            start = time.perf_counter()
            for _ in loader:
                pass
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def _parts_of_ours(dataset: UnlabelledImages, draws: list[list[Draw]]) -> Parts:
    """Milliseconds of a core for an image, by clocks around the parts; decoding is what is left."""
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
        _load(dataset, batch)
    total = time.process_time() - start
    return _per_image(dataset.parts | {'collate': total - sum(dataset.parts.values())}, draws)


def _per_image(seconds: Parts, draws: list[list[Draw]]) -> Parts:
    return {name: 1000 * value / sum(map(len, draws)) for name, value in seconds.items()}


def _peak_memory(make: Callable[[], Dataset], draws: list[list[Draw]]) -> int:
    """Bytes that a process of its own held at most while it loaded these batches."""
    context = multiprocessing.get_context('spawn')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_load_and_tell, args=(make, draws, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def _load_and_tell(make: Callable[[], Dataset], draws: list[list[Draw]],
                   sender: multiprocessing.connection.Connection) -> None:
    dataset = make()
    with one_thread():
        for batch in draws:
            if isinstance(dataset, PlainImages):
                _load(dataset, batch)
            else:
                dataset.__getitems__(batch)
    sender.send(_own_peak())


def _own_peak() -> int:
    """Bytes. Linux hands the `ru_maxrss` of a parent down, so that the kernel's own mark is read there."""
    if os.path.exists('/proc/self/status'):
        mark = next(line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith('VmHWM'))
        return 1024 * int(mark.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: in bytes


def _settings(name: str) -> dict[str, object]:
    common = dict(threads=1, scale=(0.2, 1.0), interpolation='bicubic', torch=torch.__version__)
    if name == 'ours':
        return common | dict(decoder=f'simplejpeg {simplejpeg.__version__}, opencv {cv2.__version__}',
                             batch='uint8 (B, H, W, C), flipped and normalised on the device')
    return common | dict(decoder=f'pillow {PIL.__version__}, torchvision {torchvision.__version__}',
                         batch='float32 (B, C, H, W), flipped and normalised')
