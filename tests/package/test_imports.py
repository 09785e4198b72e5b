"""What is loaded by an import. Which file may import which other is checked by import-linter (pyproject.toml)."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'mae_backbone'
# Subclasses of mmdet's and mmseg's parts, which only configs import; and mmcv's replacement, imported as `mmcv._ext`.
TASKS = ('detection', 'segmentation')
REPLACEMENT = 'compat.mmcv_ext'
OPTIONAL = {'gradio'}  # packages of extras that modules import at their top; without them, these modules are left out


def modules(*, of: str = '') -> list[str]:
    """Names of the modules of the package, or of one room, below `mae_backbone`."""
    names = ['.'.join(file.relative_to(PACKAGE).with_suffix('').parts)
             for file in sorted(PACKAGE.joinpath(of).rglob('*.py')) if not file.stem.startswith('__')]
    return [name for name in names if name != REPLACEMENT and name.split('.')[0] not in TASKS]


def loaded_by(names: list[str], watched: set[str]) -> str:
    """Imports modules one after the other in a new interpreter; returns 'NAME loads OTHER' lines."""
    code = f'''
import importlib, sys
for name in {names}:
    try:
        importlib.import_module('mae_backbone' + name)
    except ModuleNotFoundError as error:
        if error.name not in {OPTIONAL}:
            raise
    print(*['mae_backbone' + name + ' loads ' + other + chr(10) for other in {watched} if other in sys.modules], end='')
'''
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])}
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_of_the_package_loads_nothing_heavy():
    assert loaded_by([''], {'torch', 'numpy', 'cv2', 'timm', 'mmengine', 'mmcv', 'mmdet', 'mmseg'}) == ''


def test_core_loads_nothing_of_openmmlab():
    assert loaded_by([f'.{name}' for name in modules(of='core')], {'mmengine', 'mmcv', 'mmdet', 'mmseg'}) == ''


def test_no_module_loads_mmdet_or_mmseg():
    assert loaded_by([f'.{name}' for name in modules()], {'mmdet', 'mmseg'}) == ''


def test_fingerprint_is_taken_without_the_memory_of_timm():
    before = ['.planning.fingerprint', '.planning.machine', '.planning.own_data', '.planning.plan', '.cli.write_plan']
    assert loaded_by(before, {'timm', 'torchvision', 'mmdet', 'mmseg', 'matplotlib'}) == ''
