"""Batches that are copied one ahead: same order, errors in their place."""
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from mae_backbone.engine import prefetch
from mae_backbone.engine.runner import Runner


class Copies:
    """Stands for the GPU: logs when the copy of a batch is started and when it is used."""

    def __init__(self) -> None:
        self.log: list[tuple[str, int]] = []
        self.count = 0

    def __call__(self, batch: Any) -> Callable[[], Any]:
        number, self.count = self.count, self.count + 1
        self.log.append(('start', number))

        def ready() -> Any:
            self.log.append(('use', number))
            return batch
        return ready


def test_each_copy_starts_before_the_batch_before_it_is_used():
    copies = Copies()
    assert list(prefetch.one_ahead(range(3), copies)) == [0, 1, 2]
    assert copies.log == [('start', 0), ('start', 1), ('use', 0), ('start', 2), ('use', 1), ('use', 2)]
    assert list(prefetch.one_ahead([], copies)) == []


def test_an_error_of_the_loader_comes_after_the_batches_before_it():
    def batches() -> Iterator[int]:
        yield from (1, 2)
        raise OSError('cannot be read')
    ahead = prefetch.one_ahead(batches(), Copies())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match='cannot be read'):
        next(ahead)


def test_closing_closes_the_batches():
    closed = []

    def batches() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.append(True)
    ahead = prefetch.one_ahead(batches(), Copies())
    next(ahead)
    ahead.close()
    assert closed == [True]


def test_batches_for_a_cpu_are_left_alone():
    batches = [dict(inputs=torch.zeros(1))]
    assert prefetch.prefetch(batches, torch.device('cpu')) is batches


def test_tensors_of_lists_are_mapped():
    assert prefetch.map_tensors([torch.ones(2), [torch.ones(1)], 'x'], lambda x: x.sum().item()) == [2.0, [1.0], 'x']


def test_loaders_pin_memory_if_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch):
    config = dict(dataset=[1, 2, 3], batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    for gpu in (False, True):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda gpu=gpu: gpu)
        loader = Runner.build_dataloader(config)
        assert isinstance(loader, DataLoader)
        assert loader.pin_memory == gpu
    assert not Runner.build_dataloader(config | dict(pin_memory=False)).pin_memory
