"""Inference speed of a model: median time of single images after a warm-up, model and pipeline separately."""
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mae_backbone.benchmark.measurement import describe, peak_bytes, seconds
from mae_backbone.benchmark.report import bytes_text

WARMUP = 10  # our choice: warm-up images, until caches, kernels and the clock of a GPU have settled


@torch.inference_mode()
def measure(model: nn.Module, dataset: Dataset, *, images: int, warmup: int = WARMUP,
            progress: Callable[[int, int], None] = lambda *_: None) -> dict:
    """Times a model on the images of a data set, one at a time; a small set is repeated.

    Args:
        model: with weights, on its device. Its `test_step` includes normalization and the merging of boxes.
        dataset: with the test pipeline.
        images: number of measured images.
        warmup: number of images before them.
        progress: called after each image with the number of finished images and the number of all.

    Returns:
        Median milliseconds per image of the model and of the pipeline, images/s of each, smallest and largest time of
        the model, peak memory in bytes (on CUDA what torch allocated, otherwise of the whole process), the machine.
    """
    device = next(model.parameters()).device
    model.eval()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
    pipeline: list[float] = []
    step: list[float] = []
    for number in range(warmup + images):
        start = time.perf_counter()
        batch = pseudo_collate([dataset[number % len(dataset)]])  # type: ignore[arg-type]  # Dataset has no __len__
        pipeline.append(time.perf_counter() - start)
        step.append(seconds(partial(cast(BaseModel, model).test_step, batch), device))
        progress(number + 1, warmup + images)
    model_ms, pipeline_ms = (1e3 * statistics.median(times[warmup:]) for times in (step, pipeline))
    return {'images': images, 'warmup': warmup, 'model_ms': model_ms, 'pipeline_ms': pipeline_ms,
            'model_images_per_s': 1e3 / model_ms, 'pipeline_images_per_s': 1e3 / pipeline_ms,
            'model_ms_range': [1e3 * min(step[warmup:]), 1e3 * max(step[warmup:])],
            'peak_memory': peak_bytes(device), 'machine': describe(device)}


def lines(result: dict) -> list[str]:
    """Formats the result of `measure` for a terminal."""
    low, high = result['model_ms_range']
    return [f'model: {result["model_ms"]:.1f} ms per image, {result["model_images_per_s"]:.2f} images/s (from '
            f'{low:.1f} to {high:.1f} ms), with normalization and the merging of boxes',
            f'pipeline: {result["pipeline_ms"]:.1f} ms per image, {result["pipeline_images_per_s"]:.2f} images/s in '
            'one process',
            f'median of {result["images"]} images after {result["warmup"]}, one at a time; peak memory '
            f'{bytes_text(result["peak_memory"])}',
            ', '.join(f'{name} {value}' for name, value in result['machine'].items())]
