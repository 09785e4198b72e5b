"""Makes `mae_backbone::FOLDER/NAME.py` known to MMEngine's configs, without importing MMEngine.

MMEngine resolves `PACKAGE::PATH` in `_base_` and in `mmengine.hub.get_config` only for packages that it knows by name.
"""
import sys
from types import ModuleType

from mae_backbone.compat.import_hook import Execute, on_import

_TABLE = 'mmengine.config.utils'  # the module with the names


def install() -> None:
    """Adds our name now if MMEngine is imported already, otherwise when it is imported."""
    if _TABLE in sys.modules:
        _add(sys.modules[_TABLE])
    else:
        on_import(_TABLE, _execute_and_add)


def _execute_and_add(module: ModuleType, execute: Execute) -> None:
    execute(module)
    _add(module)


def _add(module: ModuleType) -> None:
    module.MODULE2PACKAGE['mae_backbone'] = 'mae_backbone'
