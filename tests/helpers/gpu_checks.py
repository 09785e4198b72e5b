"""Checks that end in every way that a check can."""
import os
import time

from mae_backbone.benchmark.gpu.check import Rows, Settings, SkippedCheckError


def fine(settings: Settings) -> Rows:
    yield 'first', {'images/s': 12.5, 'ok': True}
    yield 'second', {'images/s': 1234.5, 'note': 'a|b'}


def wrong(settings: Settings) -> Rows:
    yield 'right', {'ok': True}
    yield 'false', {'ok': False}
    yield 'broken', {'error': 'out of memory'}


def raising(settings: Settings) -> Rows:
    yield 'before', {'images/s': 1.0}
    raise RuntimeError('no kernel\n  for this GPU')


def skipped(settings: Settings) -> Rows:
    raise SkippedCheckError('not here')
    yield 'never', {}


def without_package(settings: Settings) -> Rows:
    import package_that_is_not_installed  # noqa: F401
    yield 'never', {}


def crash(settings: Settings) -> Rows:
    yield 'before', {'images/s': 1.0}
    os._exit(3)


def hang(settings: Settings) -> Rows:
    yield 'before', {'images/s': 1.0}
    time.sleep(600)
