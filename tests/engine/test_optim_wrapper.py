"""Non-finite gradients change nothing; all other steps equal torch's."""
import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from mae_backbone.engine.optim_wrapper import GuardedOptimWrapper, between_steps, fuse
from mae_backbone.utils import device_scalars


@pytest.fixture(autouse=True)
def _nothing_recorded() -> None:
    device_scalars.drain()


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2))


def batch(index: int) -> Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(index))


def loss_of(model: nn.Module, index: int) -> Tensor:
    return model(batch(index)).square().mean() * 30


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [t.clone() for t in model.parameters()] + [
        value.clone() for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]


def optimizer(model: nn.Module, kind: str = 'AdamW') -> torch.optim.Optimizer:
    options = dict(lr=.1, weight_decay=.1)
    return getattr(torch.optim, kind)(model.parameters(), **options, **(dict(momentum=.9) if kind == 'SGD' else {}))


@pytest.mark.parametrize('kind', ['AdamW', 'Adam', 'SGD'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0), dict(max_norm=2.0, norm_type=1.0),
                                  dict(type='value', clip_value=.1)], ids=str)
def test_steps_equal_torch(kind: str, clip: dict | None):
    ours, theirs = network(), network()
    wrapper, plain = GuardedOptimWrapper(optimizer(ours, kind), clip_grad=clip), optimizer(theirs, kind)
    norms = []
    for index in range(4):
        wrapper.update_params(loss_of(ours, index))
        loss_of(theirs, index).backward()
        options = {key: value for key, value in (clip or {}).items() if key != 'type'}
        kind_of_norm = options.get('norm_type', 2.0)
        norms.append(nn.utils.get_total_norm([p.grad for p in theirs.parameters()], kind_of_norm).item())
        if options:
            getattr(nn.utils, 'clip_grad_norm_' if 'max_norm' in options else 'clip_grad_value_')(
                theirs.parameters(), **options)
        plain.step()
        plain.zero_grad()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert wrapper.fused == (kind != 'SGD')
    recorded = device_scalars.drain()
    assert recorded['grad_norm'] == pytest.approx(norms)
    assert recorded['skipped'] == [0.0] * 4
    assert clip is None or norms[0] > 1  # there was something to clip
    assert clip != dict(type='value')


@pytest.mark.parametrize('kind', ['AdamW', 'SGD'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0), dict(type='value', clip_value=.1)], ids=str)
@pytest.mark.parametrize('how', ['nan gradient', 'inf gradient', 'nan loss', 'inf loss with finite gradients'])
@pytest.mark.parametrize('steps_before', [0, 2])
def test_nonfinite_gradients_change_nothing(kind: str, clip: dict | None, how: str, steps_before: int):
    model = network()
    wrapper = GuardedOptimWrapper(optimizer(model, kind), clip_grad=clip)
    for index in range(steps_before):
        wrapper.update_params(loss_of(model, index))
    before, twin = state(model, wrapper.optimizer), copy.deepcopy(model.state_dict())
    loss = loss_of(model, 5)
    if how == 'nan loss':
        loss = loss * math.nan
    elif how == 'inf loss with finite gradients':
        loss = loss + math.inf
    else:
        bad = math.nan if how == 'nan gradient' else math.inf
        model[2].weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(1), bad))
    wrapper.update_params(loss)
    after = state(model, wrapper.optimizer)
    if steps_before:
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(torch.equal(value, twin[name]) for name, value in model.state_dict().items())
    assert device_scalars.drain()['skipped'] == [0.0] * steps_before + [1.0]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize('kind', ['AdamW', 'SGD'])
def test_skipped_step_leaves_no_trace(kind: str):
    runs = []
    for indices in ((0, 1, 2), (-1, 0, -1, -1, 1, 2)):
        model = network()
        wrapper = GuardedOptimWrapper(optimizer(model, kind), clip_grad=dict(max_norm=1.0))
        for index in indices:
            wrapper.update_params(loss_of(model, index) * (math.nan if index < 0 else 1))
        runs.append(state(model, wrapper.optimizer))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_one_nonfinite_loss_skips_accumulated_step():
    model = network()
    wrapper = GuardedOptimWrapper(optimizer(model), accumulative_counts=2)
    before = [p.clone() for p in model.parameters()]
    wrapper.update_params(loss_of(model, 0) * math.nan)
    assert between_steps(wrapper)
    wrapper.update_params(loss_of(model, 1))
    assert not between_steps(wrapper)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))
    assert device_scalars.drain()['skipped'] == [1.0]


def test_accumulated_steps_equal_large_batch():
    one, two = network(), network()
    whole, parts = GuardedOptimWrapper(optimizer(one)), GuardedOptimWrapper(optimizer(two), accumulative_counts=2)
    for index in range(3):
        whole.update_params((loss_of(one, 2 * index) + loss_of(one, 2 * index + 1)) / 2)
        parts.update_params(loss_of(two, 2 * index))
        parts.update_params(loss_of(two, 2 * index + 1))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_fused_optimizer_does_not_wait_for_device(monkeypatch: pytest.MonkeyPatch):
    model = network()
    wrapper = GuardedOptimWrapper(optimizer(model), clip_grad=dict(max_norm=1.0))
    wrapper.update_params(loss_of(model, 0))

    def refuse(*_: object) -> None:
        raise AssertionError('the host waits for the device')
    for name in ('item', 'tolist', '__bool__', '__float__', 'cpu'):
        monkeypatch.setattr(Tensor, name, refuse)
    wrapper.update_params(loss_of(model, 1))
    monkeypatch.undo()
    assert device_scalars.drain()['skipped'] == [0.0, 0.0], 'both steps were taken'


def test_optimizer_without_fused_steps_is_logged(monkeypatch: pytest.MonkeyPatch):
    said = []
    monkeypatch.setattr('mae_backbone.engine.optim_wrapper.print_log', lambda line, **_: said.append(line))
    assert not GuardedOptimWrapper(optimizer(network(), 'SGD')).fused
    assert 'the host waits' in said[0]
    assert GuardedOptimWrapper(optimizer(network())).fused
    assert len(said) == 1


def test_choice_of_implementation_is_kept():
    model = network()
    assert not fuse(torch.optim.AdamW(model.parameters(), foreach=True))
    assert not fuse(torch.optim.AdamW(model.parameters(), fused=False))
    assert fuse(torch.optim.AdamW(model.parameters(), fused=True))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_autocast_on_a_cpu(dtype: str):
    model = network()
    wrapper = GuardedOptimWrapper(optimizer(model), dtype=dtype)
    with wrapper.optim_context(model):
        assert model(batch(0)).dtype == getattr(torch, dtype)
    assert model(batch(0)).dtype == torch.float32


@pytest.mark.parametrize(('dtype', 'says'), [('float16', 'take bfloat16'), ('half', 'expected one of float32')])
def test_invalid_precision_is_refused(dtype: str, says: str):
    with pytest.raises(ValueError, match=says):
        GuardedOptimWrapper(optimizer(network()), dtype=dtype)


@pytest.mark.parametrize('fused_before', [True, False])
def test_state_resumes_bit_for_bit(fused_before: bool):
    models = [network(), network()]
    whole = GuardedOptimWrapper(torch.optim.AdamW(models[0].parameters(), lr=.1, fused=fused_before or None,
                                                  foreach=None if fused_before else True))
    for index in range(2):
        whole.update_params(loss_of(models[0], index))
    models[1].load_state_dict(models[0].state_dict())
    resumed = GuardedOptimWrapper(optimizer(models[1]))
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert resumed.optimizer.param_groups[0]['fused']
    for wrapper, model in zip((whole, resumed), models, strict=True):
        wrapper.update_params(loss_of(model, 2))
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(a, b) if fused_before else torch.allclose(a, b)


def test_return_to_loads_moments_and_keeps_learning_rate():
    model = network()
    wrapper = GuardedOptimWrapper(optimizer(model))
    wrapper.update_params(loss_of(model, 0))
    earlier = copy.deepcopy(wrapper.state_dict())
    moments = [value.clone() for value in state(nn.Sequential(), wrapper.optimizer)]
    wrapper.optimizer.param_groups[0]['lr'] = .025
    wrapper.update_params(loss_of(model, 1))
    loss_of(model, 2).backward()
    wrapper.return_to(earlier)
    assert all(torch.equal(a, b) for a, b in zip(state(nn.Sequential(), wrapper.optimizer), moments, strict=True))
    assert wrapper.get_lr()['lr'] == [.025]
    assert all(p.grad is None for p in model.parameters())
