"""Decoding of JPEGs by the GPU (nvJPEG, through torchvision) against the CPU."""
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from mae_backbone.benchmark.gpu.check import Rows, Settings, SkippedCheckError
from mae_backbone.benchmark.gpu.measure import attempt, milliseconds
from mae_backbone.benchmark.synthetic_images import photograph
from mae_backbone.utils.cpu import available_cpus


def decoding(settings: Settings) -> Rows:
    """Images of 500x375 pixels per second: one CPU thread, all CPUs, and the GPU."""
    warnings.filterwarnings('ignore', 'The image decoding and encoding', DeprecationWarning)  # torchvision 0.29
    try:
        from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
    except ImportError as error:
        raise SkippedCheckError(f'this torchvision decodes no images: {error}') from None
    different, number = (2, 4) if settings.tiny else (8, 512)
    pixels = [torch.from_numpy(photograph(seed=i)).permute(2, 0, 1) for i in range(different)]
    files = [encode_jpeg(image, quality=90) for image in pixels] * (number // different)

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
        images = decode_jpeg(files[:different], mode=ImageReadMode.RGB, device='cuda')
        differences = [(a.cpu().float() - decode(b).float()).abs() for a, b in zip(images, files, strict=False)]
        return {**rate(lambda: decode_jpeg(files, mode=ImageReadMode.RGB, device='cuda')),
                'mean difference': float(torch.stack(differences).mean()),
                'largest difference': float(torch.stack(differences).max())}
    yield 'GPU', attempt(on_gpu)
