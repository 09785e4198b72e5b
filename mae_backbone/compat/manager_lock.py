"""Frees the lock of MMEngine's global instances after an error.

`get_instance` and `get_current_instance` of `ManagerMixin` (MMEngine 0.10) do not release their lock if they raise: for
a logger whose file cannot be written, or without an instance. The thread continues, and every other thread that needs
an instance waits forever.
"""
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

from mmengine.utils import manager

_MARK = '_releases_its_lock'


def install() -> None:
    """Lets both methods release the lock. Does nothing the second time."""
    for name in ('get_instance', 'get_current_instance'):
        original = getattr(manager.ManagerMixin, name).__func__
        if not hasattr(original, _MARK):
            setattr(manager.ManagerMixin, name, classmethod(_releasing(original)))


def _releasing(original: Callable) -> Callable:
    @wraps(original)
    def method(*args: Any, **options: Any) -> Any:
        try:
            return original(*args, **options)
        except BaseException:
            with suppress(RuntimeError):  # an interrupt before the lock was taken
                manager._release_lock()
            raise

    setattr(method, _MARK, True)
    return method
