"""How fast a model is: the median over single images, after a warm-up, the pipeline apart from the model."""
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from mmengine.dataset import pseudo_collate
from torch import nn
from torch.utils.data import Dataset

from mae_backbone.benchmark.measurement import describe, peak_bytes, seconds
from mae_backbone.benchmark.report import bytes_text

WARMUP = 10  # ours: images before those that count; caches, kernels and the clock of a GPU have settled by then


@torch.inference_mode()
def measure(model: nn.Module, dataset: Dataset, *, images: int, warmup: int = WARMUP,
            progress: Callable[[int, int], None] = lambda *_: None) -> dict:
    """Times a model on the images of a data set, one at a time and from the start again where it has too few.

    Args:
        model: with weights, on its device; in its `test_step` are the normalization and the merging of boxes too.
        dataset: with the pipeline of the test.
        images: that count.
        warmup: images before them.
        progress: is told after each image how many are done, of how many.

    Returns:
        Milliseconds of the model and of the pipeline for an image, both medians; images/s of each; the smallest and
        the largest time of the model; bytes of memory at the peak (CUDA: what torch allocated there, otherwise all that
        the process held); the machine.
    """
    device = next(model.parameters()).device
    model.eval()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    pipeline, step = [], []
    for done, number in enumerate(_in_circles(len(dataset), warmup + images), start=1):
        start = time.perf_counter()
        batch = pseudo_collate([dataset[number]])
        pipeline.append(time.perf_counter() - start)
        step.append(seconds(lambda batch=batch: model.test_step(batch), device))
        progress(done, warmup + images)
    model_ms, pipeline_ms = (1e3 * statistics.median(times[warmup:]) for times in (step, pipeline))
    return {'images': images, 'warmup': warmup, 'model_ms': model_ms, 'pipeline_ms': pipeline_ms,
            'model_images_per_s': 1e3 / model_ms, 'pipeline_images_per_s': 1e3 / pipeline_ms,
            'model_ms_range': [1e3 * min(step[warmup:]), 1e3 * max(step[warmup:])],
            'peak_memory': peak_bytes(device), 'machine': describe(device)}


def lines(found: dict) -> list[str]:
    """What `measure` found, for a terminal."""
    low, high = found['model_ms_range']
    return [f'model: {found["model_ms"]:.1f} ms an image, {found["model_images_per_s"]:.2f} images/s (from {low:.1f} '
            f'to {high:.1f} ms), with normalization and the merging of boxes',
            f'pipeline: {found["pipeline_ms"]:.1f} ms an image, {found["pipeline_images_per_s"]:.2f} images/s in one '
            'process',
            f'median of {found["images"]} images after {found["warmup"]}, one at a time; peak memory '
            f'{bytes_text(found["peak_memory"])}',
            ', '.join(f'{name} {value}' for name, value in found['machine'].items())]


def _in_circles(length: int, count: int) -> Iterator[int]:
    return (number % length for number in range(count))
