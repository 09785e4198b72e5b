"""Changes a module of another package when that package imports it, without importing it before."""
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Execute = Callable[[ModuleType], None]


class _Hook:  # no subclass of importlib.abc.MetaPathFinder, whose import is slow
    """Finds one module with the other finders, and lets a function execute it. Then removes itself."""

    def __init__(self, name: str, run: Callable[[ModuleType, Execute], None]) -> None:
        self.name, self.run = name, run

    def find_spec(self, fullname: str, path: Sequence[str] | None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            # This loader loads one module.
            spec.loader.exec_module = lambda module: self.run(module, execute)  # type: ignore[method-assign]
        return spec


def on_import(name: str, run: Callable[[ModuleType, Execute], None]) -> None:
    """Calls `run` when a module is imported. Does nothing if `run` waits for the module already.

    Args:
        name: of a module that is not imported yet.
        run: gets the new module, and the function that executes it, which it has to call.
    """
    if not any(isinstance(finder, _Hook) and (finder.name, finder.run) == (name, run) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Hook(name, run))
