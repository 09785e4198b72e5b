"""Version of the code, versions of the packages, and hardware on which a cell was run."""
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

import mae_backbone
from mae_backbone.utils.cpu import available_cpus, read_system_file

_PACKAGES = ('torch', 'torchvision', 'timm', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
             'onedl-mmsegmentation', 'numpy', 'scipy', 'scikit-learn')


@cache
def code_version() -> dict[str, Any]:
    """Commit of the checkout and versions of the packages.

    They are read once per process, because a process keeps the code that it has imported.
    """
    return {'commit': git_commit(Path(mae_backbone.__file__).resolve().parents[1]), 'versions': dict(_versions())}


def format_environment(environment: dict[str, Any]) -> str:
    """Formats `code_version` and `hardware` as a readable line."""
    machine = '; '.join(f'{key}: {value}' for key, value in environment.get('hardware', {}).items())
    versions = ', '.join(f'{name} {number}' for name, number in environment.get('versions', {}).items())
    return f'commit {environment.get("commit") or "unknown"}. {machine}. {versions}.'


def hardware() -> dict[str, str]:
    """Names of the CPU and GPUs, and the size of the memory.

    GPUs are included only if torch is already imported, because its import takes seconds.
    """
    names = re.findall(r'^model name\s*: (.+)', read_system_file('/proc/cpuinfo'), re.MULTILINE)
    found = {'processor': f'{available_cpus()} x {names[0] if names else platform.machine()}',
             'memory': f'{psutil.virtual_memory().total / 2**30:.0f} GB'}
    cuda = sys.modules['torch'].cuda if 'torch' in sys.modules else None
    gpus = [cuda.get_device_name(i) for i in range(cuda.device_count())] if cuda else []
    return found | ({'GPUs': ', '.join(gpus)} if gpus else {})


def git_commit(folder: Path) -> str | None:
    """Returns the commit of a git checkout, with '+' if files differ from it; None if `folder` is not its root.

    A folder inside a checkout of another project, such as the site-packages of a project's environment, has no commit.
    """
    if not (folder / '.git').exists():
        return None
    try:
        head, changes = (subprocess.run(['git', '-C', str(folder), *words], capture_output=True, text=True, check=True)
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
