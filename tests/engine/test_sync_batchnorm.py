"""Batch normalization over processes on CPUs."""
import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.testing import assert_close

from mae_backbone.engine.sync_batchnorm import CPUSyncBatchNorm, sync_batchnorm_on_cpus


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of two processes that have the same batch."""
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'get_world_size', lambda: 2)
    monkeypatch.setattr(dist, 'all_reduce', lambda x: x.mul_(2))


@pytest.mark.usefixtures('twins')
@pytest.mark.parametrize(('shape', 'options'), [((2, 3, 4, 5), {}), ((2, 3), dict(momentum=None)),
                                                ((4, 3, 2), dict(affine=False, track_running_stats=False))])
def test_two_processes_normalize_as_one_with_both_batches(shape: tuple, options: dict):
    plain = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    ours, reference = CPUSyncBatchNorm(3, **options).double(), plain(3, **options).double()
    for layer in (ours, reference):
        for parameter in layer.parameters():
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        x, gradient = torch.randn(2, *shape, dtype=torch.float64) * 3 + 5
        results = [outputs_and_gradients(layer, batch, grad) for layer, batch, grad in (
            (ours, x, gradient), (reference, torch.cat([x, x]), torch.cat([gradient, gradient])))]
        assert_close(results[0][0], results[1][0][:len(x)])
        assert_close(results[0][1], results[1][1][:len(x)])
        for mine, both in zip(results[0][2:], results[1][2:], strict=True):
            assert_close(mine, both / 2)  # DistributedDataParallel averages: here the gradient of each is the same
    for name, buffer in reference.named_buffers():
        assert_close(dict(ours.named_buffers())[name], buffer)


def outputs_and_gradients(layer: nn.Module, x: Tensor, gradient: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    layer.zero_grad()
    output = layer(leaf)
    output.backward(gradient)
    return [output, leaf.grad, *(parameter.grad for parameter in layer.parameters())]


@pytest.mark.usefixtures('twins')
def test_half_precision_keeps_its_type():
    assert CPUSyncBatchNorm(3)(torch.randn(2, 3, 4, 4).bfloat16()).dtype == torch.bfloat16


def test_alone_and_in_evaluation_it_is_torchs(monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(2, 3, 4, 4)
    assert_close(CPUSyncBatchNorm(3)(x), nn.BatchNorm2d(3)(x))
    with pytest.raises(ValueError, match=r'batch normalization of \(3,\): expected'):
        CPUSyncBatchNorm(3)(x[0, :, 0, 0])
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    assert_close(CPUSyncBatchNorm(3).eval()(x), nn.BatchNorm2d(3).eval()(x))


def test_layers_are_replaced_in_place():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.SyncBatchNorm(3), nn.BatchNorm2d(3))
    names, layer = list(model.state_dict()), model[1]
    assert sync_batchnorm_on_cpus(model) == 1
    assert model[1] is layer
    assert type(layer) is CPUSyncBatchNorm
    assert list(model.state_dict()) == names
    assert sync_batchnorm_on_cpus(model) == 0
