"""Checks of the installed distributions: several that own one folder, and versions newer than those tested."""
import re
import sys
import warnings
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version

# What setup.py requires -> distributions that stopped in 2023 to 2025 and own the same folder (mmengine, mmcv, ...).
# Of two distributions in one folder, the one that was installed last wins, without a message.
RIVALS = {
    'onedl-mmengine~=0.10.12': ('mmengine', 'mmengine-lite'),
    'onedl-mmcv~=2.3.6': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'onedl-mmdetection~=3.5.1': ('mmdet',),
    'onedl-mmsegmentation~=1.4.2': ('mmsegmentation',),
}
# These own the folder cv2. onedl-mmdetection brings the headless one, through imaug.
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')
# The newest versions that the tests were run with.
TESTED = {'python': '3.14', 'torch': '2.14', 'torchvision': '0.29', 'timm': '1.0.31', 'numpy': '2.5',
          'opencv-python': '5.0'}


def warn_of_clashes() -> None:
    """Warns if two installed distributions own one folder. Takes a few milliseconds."""
    names = [name for requirement, rivals in RIVALS.items() for name in (_name(requirement), *rivals)]
    versions = {name: found for name in (*names, *OPENCV) if (found := _version(name))}
    for message in (clashes(versions), opencv_clash(versions)):
        if message:
            warnings.warn(message, stacklevel=2)


def clashes(installed: Collection[str]) -> str | None:
    """Returns what to uninstall and reinstall, given the names of the installed distributions, or None."""
    clashing = {requirement: present for requirement, rivals in RIVALS.items()
                if _name(requirement) in installed and (present := [name for name in rivals if name in installed])}
    if not clashing:
        return None
    rivals = ' '.join(name for present in clashing.values() for name in present)
    wanted = ' '.join(clashing)
    return (f'{rivals} and {wanted} are installed side by side and own the same folders; mae_backbone needs the '
            f'latter, and the one installed last has won. Run `pip uninstall -y {rivals}` and then, since that removes '
            f'files of both, `pip install --force-reinstall --no-deps {wanted}`')


def opencv_clash(versions: Mapping[str, str]) -> str | None:
    """Returns what to reinstall if several distributions of OpenCV differ, given versions by name, or None."""
    present = {name: versions[name] for name in OPENCV if name in versions}
    if len(set(present.values())) <= 1:
        return None
    listed = ' and '.join(f'{name} {number}' for name, number in present.items())
    oldest = min(present.values(), key=_numbers)
    return (f'{listed} are installed side by side and own the folder cv2, which now has files of both. Run '
            f'`pip install --force-reinstall --no-deps {" ".join(f"{name}=={oldest}" for name in present)}`')


def newer_than_tested() -> list[str]:
    """Returns a line for each installed version that is newer than the tested ones."""
    lines = []
    for name, tested in TESTED.items():
        found = '.'.join(map(str, sys.version_info[:3])) if name == 'python' else _version(name)
        if found and _numbers(found)[:len(_numbers(tested))] > _numbers(tested):
            lines.append(f'{name} {found} is newer than {tested}, the newest version that mae_backbone was tested with')
    return lines


def _name(requirement: str) -> str:
    return requirement.split('~=')[0]


def _numbers(text: str) -> tuple[int, ...]:
    """'2.14.1+cu130' -> (2, 14, 1)."""
    return tuple(map(int, re.findall(r'\d+', text.split('+')[0])))[:4]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
