"""A device is selected by its name. A device that does not exist is refused, and the available devices are named."""
import pytest
import torch

from mae_backbone.utils.devices import select_device


@pytest.mark.parametrize('name', ['cpu', 'cpu:0', torch.device('cpu')])
def test_a_device_that_exists_is_returned(name):
    assert select_device(name).type == 'cpu'


@pytest.mark.parametrize('name', ['cuda:3', 'cuda', 'mps', 'foo', 'cuda:x', 'gpu'])
def test_a_device_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    monkeypatch.setattr(torch.backends.mps, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=f'device {name} does not exist on this machine: choose one of cpu$'):
        select_device(name)


def test_gpus_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert str(select_device('cuda:1')) == 'cuda:1'
    with pytest.raises(ValueError, match='choose one of cpu, cuda:0, cuda:1'):
        select_device('cuda:2')
