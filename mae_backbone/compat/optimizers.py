"""Keeps MMEngine from importing transformers for an optimizer that hardly any run uses.

MMEngine registers the `Adafactor` of transformers when it is imported. That takes as long as importing torch, and more
with peft installed. Here transformers is imported when the optimizer is built.
"""
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from mae_backbone.compat.import_hook import Execute, on_import

_BUILDER = 'mmengine.optim.optimizer.builder'  # the module that imports transformers


def install() -> None:
    """Hides transformers when MMEngine's builder of optimizers is imported. Does nothing if either is imported."""
    if not {_BUILDER, 'transformers'} & sys.modules.keys():
        on_import(_BUILDER, _execute_without_transformers)


def _execute_without_transformers(module: ModuleType, execute: Execute) -> None:
    if 'transformers' in sys.modules or find_spec('transformers') is None:
        execute(module)
        return
    sys.modules['transformers'] = None  # type: ignore[assignment]  # an import fails, as Python documents
    try:
        execute(module)
    finally:
        del sys.modules['transformers']
    module.OPTIMIZERS.register_module(name='Adafactor', module=_adafactor)


def _adafactor(*args: Any, **options: Any) -> Any:
    """Builds the optimizer of transformers."""
    from transformers import Adafactor
    return Adafactor(*args, **options)
