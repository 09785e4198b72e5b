"""The machine: GPU, versions, compiler, and the fastest matrix products."""
import os
import platform
import shutil
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch

from mae_backbone import __version__
from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.measure import GIB, PRECISIONS, milliseconds, precision
from mae_backbone.benchmark.measurement import device_name
from mae_backbone.core.compiling import compiles
from mae_backbone.utils.cpu import available_cpus

PACKAGES = ('torch', 'torchvision', 'timm', 'triton', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
            'onedl-mmsegmentation')


def machine(settings: Settings) -> Rows:
    """GPU, CPU and versions."""
    device = torch.device(settings.device)
    yield 'device', {'is': device_name(device)}
    if device.type == 'cuda':
        properties = torch.cuda.get_device_properties(device)
        yield 'compute capability', {'is': f'{properties.major}.{properties.minor}'}
        yield 'memory', {'is': f'{properties.total_memory / GIB:.0f} GiB'}
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        yield 'bfloat16', {'is': 'in hardware' if native else 'emulated'}
        yield 'CUDA', {'is': str(torch.version.cuda)}
        yield 'cuDNN', {'is': str(torch.backends.cudnn.version())}
    yield 'CPUs', {'is': str(available_cpus())}
    yield 'system', {'is': platform.platform(terse=True)}
    yield 'Python', {'is': platform.python_version()}
    yield 'mae_backbone', {'is': __version__}
    for name in PACKAGES:
        yield name, {'is': _version(name)}
    yield 'C compiler', {'is': str(os.environ.get('CC') or shutil.which('cc') or shutil.which('gcc'))}
    yield 'torch.compile', {'is': compiles('auto', device)[1]}


def limits(settings: Settings) -> Rows:
    """Fastest matrix products of each precision, and copies within the memory of the device."""
    size = 256 if settings.tiny else 8192
    for name in PRECISIONS:
        if settings.device == 'cpu' and name == 'float16':
            continue  # no fast product
        dtype = torch.float32 if name in ('float32', 'tf32') else getattr(torch, name)
        a, b = (torch.randn(size, size, device=settings.device).to(dtype) for _ in range(2))
        with precision(name if dtype == torch.float32 else 'float32', settings.device):
            taken = milliseconds(partial(torch.matmul, a, b), settings)
        yield f'product of {size} x {size}, {name}', {'TFLOP/s': 2 * size**3 / taken / 1e9}
    x = torch.empty(2**20 if settings.tiny else 2**30, device=settings.device)
    yield 'copy', {'TB/s': 2 * x.nbytes / milliseconds(x.clone, settings) / 1e9}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return 'not installed'
