"""Keeps MMEngine from importing transformers for an optimizer that hardly any run uses.

MMEngine registers the `Adafactor` of transformers when it is imported. That takes as long as importing torch, and more
with peft installed. Here transformers is imported when the optimizer is built.
"""
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_BUILDER = 'mmengine.optim.optimizer.builder'  # the module that imports transformers


class _Finder(MetaPathFinder):
    """Hides transformers while MMEngine imports its builder of optimizers, then removes itself."""

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None and importlib.util.find_spec('transformers') is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                sys.modules['transformers'] = None  # type: ignore[assignment]  # an import fails, as Python documents
                try:
                    execute(module)
                finally:
                    del sys.modules['transformers']
                module.OPTIMIZERS.register_module(name='Adafactor', module=_adafactor)
            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # this loader loads one module
        return spec


_FINDER = _Finder()


def install() -> None:
    """Hides transformers when MMEngine's builder of optimizers is imported. Does nothing if either is imported."""
    if not {_BUILDER, 'transformers'} & sys.modules.keys() and _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def _adafactor(*args: Any, **options: Any) -> Any:
    """Builds the optimizer of transformers."""
    from transformers import Adafactor
    return Adafactor(*args, **options)
