"""`import mae_backbone` is cheap and gives the documented names when they are used."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mae_backbone

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('name', mae_backbone.__all__)
def test_public_name_is_imported_when_it_is_used(name: str):
    assert getattr(mae_backbone, name).__name__.rpartition('.')[2] == name
    assert callable(getattr(mae_backbone, name))
    assert name in dir(mae_backbone)


def test_every_public_name_has_a_module():
    assert set(mae_backbone.__all__) == set(mae_backbone._MODULES)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'mae_backbone' has no attribute 'MAEE'"):
        _ = mae_backbone.MAEE


@pytest.mark.parametrize('first', ['mae_backbone', 'mmengine'])
def test_configs_of_the_package_are_known_to_mmengine(first: str):
    code = f'''
import {first}
import mae_backbone
from mmengine.config.utils import MODULE2PACKAGE
assert MODULE2PACKAGE['mae_backbone'] == 'mae_backbone'
'''
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], env=environment, check=True)
