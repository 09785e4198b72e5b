"""A function executes a module of another package when it is imported, once."""
import importlib
import sys
from pathlib import Path

import pytest

from mae_backbone.compat.import_hook import on_import


def test_a_module_is_changed_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / 'changed_module.py').write_text('value = 1\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, 'meta_path', sys.meta_path[:])
    before, seen = list(sys.meta_path), []

    def run(module, execute) -> None:
        seen.append(hasattr(module, 'value'))
        execute(module)
        module.value += 1

    for _ in range(2):
        on_import('changed_module', run)
    assert len(sys.meta_path) == len(before) + 1
    assert importlib.import_module('changed_module').value == 2
    assert seen == [False]
    assert sys.meta_path == before
    monkeypatch.delitem(sys.modules, 'changed_module')
