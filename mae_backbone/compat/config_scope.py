"""Makes `mae_backbone::FOLDER/NAME.py` known to MMEngine's configs, without importing MMEngine.

MMEngine resolves `PACKAGE::PATH` in `_base_` and in `mmengine.hub.get_config` only for packages that it knows by name.
"""
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_TABLE = 'mmengine.config.utils'  # the module with the names


class _Finder(MetaPathFinder):
    """Adds our name to the table when MMEngine imports it, then removes itself."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _TABLE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                _add(module)
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this loader loads one module
        return spec


_FINDER = _Finder()


def install() -> None:
    """Adds our name now if MMEngine is imported already, otherwise when it is imported."""
    if _TABLE in sys.modules:
        _add(sys.modules[_TABLE])
    elif _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def _add(module: ModuleType) -> None:
    module.MODULE2PACKAGE['mae_backbone'] = 'mae_backbone'
