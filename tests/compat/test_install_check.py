"""Two owners of one folder are named, with the way out; one owner is nobody's business."""
import re
import warnings
from pathlib import Path

import pytest

from mae_backbone.compat import install_check

OURS = {'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation'}


@pytest.mark.parametrize('installed', [set(), OURS, {'mmengine', 'mmcv', 'mmdet', 'mmsegmentation'},
                                       {'onedl-mmcv', 'mmdet'}, OURS | {'timm', 'torch'}])
def test_one_owner_a_folder_is_no_clash(installed):
    assert install_check.clashes(installed) is None


@pytest.mark.parametrize(('rival', 'pin'), [(rival, pin) for pin, rivals in install_check.RIVALS.items()
                                            for rival in rivals])
def test_each_rival_is_named_with_the_one_pin_it_spoils(rival, pin):
    message = install_check.clashes(OURS | {rival})
    assert f'`pip uninstall -y {rival}`' in message
    assert f'`pip install --force-reinstall --no-deps {pin}`' in message


def test_several_clashes_make_one_message():
    message = install_check.clashes(OURS | {'mmcv-lite', 'mmdet'})
    assert '`pip uninstall -y mmcv-lite mmdet`' in message
    assert '--no-deps onedl-mmcv==2.3.6 onedl-mmdetection==3.5.1`' in message


def test_pins_are_those_of_setup_py():
    text = (Path(__file__).parents[2] / 'setup.py').read_text(encoding='utf-8')
    assert set(install_check.RIVALS) == set(re.findall(r"'(onedl-[^']+)'", text))


def folder_with(names: list[str], *, parent: Path) -> str:
    """What pip leaves of distributions in a folder, as far as importlib.metadata looks."""
    for name in names:
        info = parent / '+'.join(names) / f'{name.replace("-", "_")}-1.0.dist-info'
        info.mkdir(parents=True)
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
    return str(info.parent)


def test_installed_distributions_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.path', [folder_with(['onedl-mmcv', 'mmdet'], parent=tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        install_check.warn_of_clashes()

    monkeypatch.setattr('sys.path', [folder_with(['onedl-mmcv', 'mmcv-lite'], parent=tmp_path)])
    with pytest.warns(UserWarning, match='pip uninstall -y mmcv-lite`'):
        install_check.warn_of_clashes()
