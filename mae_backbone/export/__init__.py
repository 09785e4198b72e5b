"""Models as ONNX and torch.export files.

The package is callable: `mae_backbone.export(...)` is `mae_backbone.export.run.export(...)`.
"""
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """Module of a folder that has the name of its main function."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Exports a model, see `mae_backbone.export.run.export`."""
        from mae_backbone.export.run import export
        return export(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
