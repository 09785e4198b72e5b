"""Distributions that own one folder, and versions newer than those tested, are named with the way out."""
import re
import warnings
from pathlib import Path

import pytest

from mae_backbone.compat import install_check

OURS = {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation'}


@pytest.mark.parametrize('installed', [set(), OURS, {'mmengine', 'mmcv', 'mmdet', 'mmsegmentation'},
                                       {'onedl-mmcv', 'mmdet'}, OURS | {'timm', 'torch'}])
def test_one_owner_per_folder_is_not_a_clash(installed):
    assert install_check.clashes(installed) is None


@pytest.mark.parametrize(('rival', 'requirement'), [
    (rival, requirement) for requirement, rivals in install_check.RIVALS.items() for rival in rivals])
def test_rival_is_named_with_the_requirement_it_spoils(rival, requirement):
    message = install_check.clashes(OURS | {rival})
    assert f'`pip uninstall -y {rival}`' in message
    assert f'`pip install --force-reinstall --no-deps {requirement}`' in message


def test_several_clashes_make_one_message():
    message = install_check.clashes(OURS | {'mmcv-lite', 'mmdet'})
    assert '`pip uninstall -y mmcv-lite mmdet`' in message
    assert '--no-deps onedl-mmcv~=2.3.6 onedl-mmdetection~=3.5.1`' in message


def test_requirements_equal_setup_py():
    text = (Path(__file__).parents[2] / 'setup.py').read_text(encoding='utf-8')
    assert set(install_check.RIVALS) == set(re.findall(r"'(onedl-[^']+)'", text))


@pytest.mark.parametrize('versions', [{}, {'opencv-python': '4.12.0.88'},
                                      {'opencv-python': '4.12.0.88', 'opencv-python-headless': '4.12.0.88'}])
def test_opencv_of_one_version_is_not_a_clash(versions):
    assert install_check.opencv_clash(versions) is None


def test_opencv_of_two_versions_is_reinstalled_at_the_older_one():
    message = install_check.opencv_clash({'opencv-python': '4.12.0.88', 'opencv-python-headless': '4.9.0.80'})
    assert 'opencv-python 4.12.0.88 and opencv-python-headless 4.9.0.80' in message
    assert '--no-deps opencv-python==4.9.0.80 opencv-python-headless==4.9.0.80`' in message


@pytest.mark.parametrize(('version', 'is_newer'), [
    ('2.11.0', False), ('2.14.9+cu130', False), ('2.15.0', True), ('3.0', True)])
def test_version_newer_than_tested_is_named(version: str, is_newer: bool, monkeypatch):
    monkeypatch.setattr(install_check, 'TESTED', {'torch': '2.14'})
    monkeypatch.setattr(install_check, 'version', lambda name: version)
    lines = install_check.newer_than_tested()
    assert [f'torch {version} is newer than 2.14' in line for line in lines] == [True] * is_newer


def folder_with(names: list[str], *, parent: Path) -> str:
    """A folder with what pip leaves of installed distributions, as far as importlib.metadata reads it."""
    for name in names:
        info = parent / '+'.join(names) / f'{name.replace("-", "_")}-1.0.dist-info'
        info.mkdir(parents=True)
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    return str(info.parent)


def test_installed_distributions_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.path', [folder_with(['onedl-mmcv', 'mmdet'], parent=tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        install_check.warn_of_clashes()

    monkeypatch.setattr('sys.path', [folder_with(['onedl-mmcv', 'mmcv-lite'], parent=tmp_path)])
    with pytest.warns(UserWarning, match='pip uninstall -y mmcv-lite`'):
        install_check.warn_of_clashes()
