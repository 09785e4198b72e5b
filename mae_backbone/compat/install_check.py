"""Warns of installed distributions that write into the folders of ours: the last one installed wins without a word."""
import warnings
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, distribution

# Ours, pinned as in setup.py -> those that stopped in 2023 to 2025 and own the same folder (mmengine, mmcv, ...).
RIVALS = {
    'onedl-mmengine==0.10.12': ('mmengine', 'mmengine-lite'),
    'onedl-mmcv==2.3.6': ('mmcv', 'mmcv-lite', 'mmcv-full'),
    'onedl-mmdetection==3.5.1': ('mmdet',),
    'onedl-mmsegmentation==1.4.2': ('mmsegmentation',),
}


def warn_of_clashes() -> None:
    """Look up the names above among the installed distributions (a few ms), and warn if two own one folder."""
    names = [name for pin, rivals in RIVALS.items() for name in (_name(pin), *rivals)]
    if message := clashes({name for name in names if _is_installed(name)}):
        warnings.warn(message, stacklevel=2)


def clashes(installed: Collection[str]) -> str | None:
    """What to uninstall and reinstall, given the names of the installed distributions. None if there is no clash."""
    found = {pin: beside for pin, rivals in RIVALS.items()
             if _name(pin) in installed and (beside := [rival for rival in rivals if rival in installed])}
    if not found:
        return None
    wanted, came = ' '.join(found), ' '.join(rival for beside in found.values() for rival in beside)
    return (f'{came} came in beside {wanted}, which own the same folders and are what mae_backbone wants: the last '
            f'one installed has won. Run `pip uninstall -y {came}` and then, since that removes files of both, '
            f'`pip install --force-reinstall --no-deps {wanted}`')


def _name(pin: str) -> str:
    return pin.split('==')[0]


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
