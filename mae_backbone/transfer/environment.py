"""With which code, which versions and on which machine a cell is run."""
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from mae_backbone.utils.cpu import available_cpus, read_system_file

_PACKAGES = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
             'onedl-mmsegmentation', 'numpy', 'scipy', 'scikit-learn')


@cache
def code(root: Path) -> dict:
    """Commit of what lies in `root`, and versions; found once, as a process goes on with the code that it read."""
    return {'commit': commit(root), 'versions': dict(_versions())}


def in_words(found: dict) -> str:
    """`code` and `hardware` as a line for people."""
    machine = '; '.join(f'{key}: {value}' for key, value in found['hardware'].items())
    versions = ', '.join(f'{name} {number}' for name, number in found['versions'].items())
    return f'commit {found["commit"] or "unknown"}. {machine}. {versions}.'


def hardware() -> dict[str, str]:
    """Processor, memory, and GPUs where torch is in use: it is not imported for their sake, which takes seconds."""
    names = re.findall(r'^model name\s*: (.+)', read_system_file('/proc/cpuinfo'), re.MULTILINE)
    found = {'processor': f'{available_cpus()} x {names[0] if names else platform.machine()}',
             'memory': f'{psutil.virtual_memory().total / 2**30:.0f} GB'}
    cuda = sys.modules['torch'].cuda if 'torch' in sys.modules else None
    gpus = [cuda.get_device_name(i) for i in range(cuda.device_count())] if cuda else []
    return found | ({'GPUs': ', '.join(gpus)} if gpus else {})


def commit(root: Path) -> str | None:
    """The commit that the code in `root` is at, with '+' where it was changed since; None outside of a git clone."""
    try:
        head, changes = (subprocess.run(['git', '-C', str(root), *words], capture_output=True, text=True, check=True)
                         .stdout.strip() for words in (('rev-parse', 'HEAD'), ('status', '--porcelain', '-uno')))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + '+' * bool(changes)


def _versions() -> Iterator[tuple[str, str]]:
    for name in ('mae_backbone', *_PACKAGES):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
