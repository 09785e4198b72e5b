"""The memory estimate of a step equals the memory that the step allocates."""
from itertools import accumulate

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mae_backbone.engine.memory_estimate import states_per_weight, step_memory


def test_linear_layer_equals_calculation():
    """The step holds the input (5,000 numbers), the output for a while, and the gradients (10,100) at the end."""
    layer = nn.Linear(100, 100)
    found = step_memory(layer, lambda model: model(torch.zeros(50, 100)).sum(), torch.optim.AdamW(layer.parameters()))
    assert found.weights == 4 * (100 * 100 + 100)
    assert found.moments == 2 * found.weights
    assert 4 * (5_000 + 10_100) <= found.step <= 4 * (2 * 5_000 + 10_100 + 1_000)
    assert found.total == sum(found)


@pytest.mark.parametrize(('kind', 'options', 'states'), [
    ('AdamW', {}, 2), ('SGD', {}, 0), ('SGD', dict(momentum=0.9), 1), ('AdamW', dict(amsgrad=True), 3)])
def test_states_per_weight_of_optimizers(kind: str, options: dict, states: int):
    assert states_per_weight(getattr(torch.optim, kind)([nn.Parameter(torch.zeros(3))], lr=1e-3, **options)) == states


def test_model_is_unchanged_and_memory_grows_with_batch():
    model = MODELS.build(dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
                              encoder=dict(arch=dict(width=32, depth=2, heads=2), image_size=64, patch_size=8)))
    optimizer = torch.optim.AdamW(model.parameters())
    before = torch.get_rng_state()
    small, large = (step_memory(model, lambda m, b=b: m(torch.zeros(b, 3, 64, 64), mode='loss')['loss'], optimizer)
                    for b in (8, 32))
    assert 3 < large.step / small.step < 4.1
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)


def test_estimate_equals_allocated_memory():
    """Not the memory of the process: what a C library keeps back differs from one machine to the next."""
    model = MODELS.build(dict(type='mae_backbone.MAEPretrainer', decoder_width=64, decoder_depth=2, decoder_heads=2,
                              encoder=dict(arch=dict(width=96, depth=3, heads=2), image_size=64, patch_size=8)))
    optimizer = torch.optim.AdamW(model.parameters())

    def loss_of(model: nn.Module) -> torch.Tensor:
        return model(torch.zeros(64, 3, 64, 64), mode='loss')['loss']

    expected = step_memory(model, loss_of, optimizer)
    loss_of(model).backward()  # so that what is kept from one step to the next is there
    optimizer.step()
    optimizer.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loss_of(model).backward()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == '[memory]']
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    assert max(accumulate(sizes)) == pytest.approx(expected.step, rel=1e-3)
