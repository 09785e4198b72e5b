"""Feature extraction from image files to the disk, against forward passes on images in memory."""
import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.utils.data import Subset

from mae_backbone.benchmark.measurement import describe, peak_memory, seconds
from mae_backbone.benchmark.report import Report, Side, measure_in_turns, round_ratios, table
from mae_backbone.benchmark.synthetic_images import write_photographs
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.evaluation.feature_cache import cached_features
from mae_backbone.models.classifier import ViTClassifier


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Runs the benchmark. Returns the content of its JSON file, and a table."""
    if args.data_root is not None:
        report = measure(args, args.data_root)
    else:
        with TemporaryDirectory() as folder:
            side = max(args.image_size, 32)
            write_photographs(Path(folder, 'train', 'photographs'), args.images, height=side, width=side)
            report = measure(args, folder)
    return report.to_dict(), table(report)


def measure(args: argparse.Namespace, data_root: str | Path) -> Report:
    """Measures both in turns, in wall-clock time: an extraction, which starts its workers, and bare forward passes.

    Memory is measured in a fresh process that decodes without workers.

    Raises:
        ValueError: too few images, and the errors of `ClassFolder` and the ViT.
    """
    device = torch.device(args.device)
    options = {key: getattr(args, key) for key in ('images', 'arch', 'patch_size', 'image_size', 'batch', 'device')}
    sides = [partial(side, str(data_root), **options) for side in (extraction, forward)]
    ours, baseline = sides[0](workers=args.workers), sides[1]()
    times = measure_in_turns(partial(seconds, ours, device), partial(seconds, baseline, device), rounds=args.rounds,
                     warmup=args.warmup)
    memory = [peak_memory(side, device=device, calls=1) for side in sides]
    model = f'{args.arch}, patches of {args.patch_size}, {args.image_size} px'
    result = [Side(args.images / statistics.median(times[i]), memory[i],
                   {'images': args.images, 'model': model, 'work': work})
              for i, work in enumerate(('decode, forward, float16 to the disk', 'forward'))]
    return Report('features', describe(device), result[0], result[1], round_ratios(*times), against='forward')


def extraction(data_root: str, *, workers: int = 0, batch: int, **options: Any) -> Callable[[], None]:
    """Prepares the extraction of the features of all images, into a folder that is deleted afterwards."""
    model, images = _prepare(data_root, **options)

    def work() -> None:
        with TemporaryDirectory() as folder:
            cached_features(model, images, folder, key='benchmark', batch_size=batch, workers=workers)
    return work


def forward(data_root: str, *, batch: int, **options: Any) -> Callable[[], None]:
    """Prepares as many forward passes of one batch, which is in memory in the form that the backbone takes."""
    model, images = _prepare(data_root, **options)
    device = next(model.parameters()).device
    first = [images[i]['inputs'].to(device) for i in range(min(batch, len(images)))]
    inputs = model.data_preprocessor({'inputs': first}, False)['inputs']

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, len(images), batch):
                model.backbone.tokens(inputs[:len(images) - start])
    return work


def _prepare(data_root: str, *, images: int, arch: str, patch_size: int, image_size: int,
             device: str) -> tuple[ViTClassifier, Subset]:
    model = ViTClassifier(dict(arch=arch, patch_size=patch_size, image_size=image_size), num_classes=0,
                          data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127.5] * 3, std=[63.75] * 3))
    dataset = ClassFolder(data_root, 'train', train=False, image_size=image_size)
    if len(dataset) < images:
        raise ValueError(f'{data_root} holds {len(dataset):,} images, fewer than --images {images:,}: '
                         'choose a smaller number')
    return model.to(device).eval(), Subset(dataset, range(images))
