"""Decoding of JPEGs by the GPU (nvJPEG, through torchvision) against the CPU."""
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from mae_backbone.benchmark.gpu.check import Rows, Settings, SkippedCheckError
from mae_backbone.benchmark.gpu.measure import attempt, milliseconds
from mae_backbone.benchmark.synthetic_images import photograph
from mae_backbone.utils.cpu import available_cpus

_DIFFERENT = 8  # images, decoded again and again


def decoding(settings: Settings) -> Rows:
    """Images of 500x375 pixels per second: one CPU thread, all CPUs, and the GPU."""
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
    number = 16 if settings.tiny else 512
    pixels = [torch.from_numpy(photograph(seed=i)).permute(2, 0, 1) for i in range(_DIFFERENT)]
    files = [encode_jpeg(image, quality=90) for image in pixels] * (number // _DIFFERENT)

    def decode(file: Tensor) -> Tensor:
        return decode_jpeg(file, mode=ImageReadMode.RGB)

    def rate(work: Callable[[], object]) -> dict[str, float]:
        return {'images/s': number / milliseconds(work, settings, calls=3) * 1e3}
    yield 'one CPU thread', rate(lambda: [decode(file) for file in files])
    with ThreadPoolExecutor(available_cpus()) as pool:
        yield f'{available_cpus()} CPU threads', rate(lambda: list(pool.map(decode, files)))
    if settings.device != 'cuda':
        raise SkippedCheckError('nvJPEG needs a GPU')

    def on_gpu() -> dict[str, float]:
        images = decode_jpeg(files[:_DIFFERENT], mode=ImageReadMode.RGB, device='cuda')
        differences = [(a.cpu().float() - decode(b).float()).abs() for a, b in zip(images, files, strict=False)]
        return {**rate(lambda: decode_jpeg(files, mode=ImageReadMode.RGB, device='cuda')),
                'mean difference': float(torch.stack(differences).mean()),
                'largest difference': float(torch.stack(differences).max())}
    yield 'GPU', attempt(on_gpu)
