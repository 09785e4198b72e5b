"""Fixtures of all tests: one thread, fixed random numbers, and stored outputs of the public MAE and ViTDet code."""
import mae_backbone  # noqa: F401, I001  first, as mmdet and mmseg bind mmcv's ops when they are imported

import gc
import logging
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yapf.yapflib.yapf_api
from mmengine.registry import DefaultScope
from torch import Tensor

from mae_backbone.utils import device_scalars

torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Escapes file names that are not UTF-8 in what tests print: pytest-xdist cannot send them."""
    report = yield
    report.sections = [(title, text.encode('utf-8', 'backslashreplace').decode()) for title, text in report.sections]
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves files with slow tests to the front: at the end, one of them would leave the other processes idle."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope='module')
def _frozen_heap() -> None:
    """Excludes what exists before a module from garbage collection.

    mmengine collects garbage for every data set that it builds, which takes up to a second with all of mmdet imported.
    """
    gc.freeze()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts from the same random numbers, without a default scope, and with an empty log of the device.

    Configs are not formatted for the log, which takes longer than a short training.
    """
    monkeypatch.setattr(yapf.yapflib.yapf_api, 'FormatCode', lambda text, **_: (text, True))
    torch.manual_seed(0)
    DefaultScope._instance_dict.clear()
    device_scalars.drain()


@pytest.fixture(autouse=True)
def _no_workers_left() -> Iterator[None]:
    """Collects the loaders of a test while they can be: their workers would live on beside the tests that follow."""
    yield
    if multiprocessing.active_children():
        gc.collect()


@pytest.fixture(autouse=True)
def _keep_logger() -> Iterator[None]:
    """A run gives the package's logger the handlers of its own logger: the next test has it as it was."""
    logger = logging.getLogger('mae_backbone')
    state = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate, level = state
    logger.setLevel(level)  # which also forgets what the logger has cached


@pytest.fixture(scope='session')
def golden_mae() -> dict[str, Tensor]:
    """Parameters, inputs and outputs of the public MAE code on a tiny model with random weights."""
    return _golden('mae_tiny')


@pytest.fixture(scope='session')
def golden_vitdet() -> dict[str, Tensor]:
    """Parameters, inputs and outputs of the public ViTDet code (detectron2) on a tiny model with random weights."""
    return _golden('vitdet_tiny')


def _golden(name: str) -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / 'golden' / f'{name}.npz') as file:
        return {key: torch.from_numpy(np.asarray(value)) for key, value in file.items()}
