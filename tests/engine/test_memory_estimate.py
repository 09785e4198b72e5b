"""The memory estimate of a step equals the memory that the step allocates."""
from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mae_backbone.engine import memory_estimate
from mae_backbone.engine.memory_estimate import (
    CHECKPOINTING,
    TrainingMemory,
    choose_checkpointing,
    states_per_weight,
    step_memory,
    training_memory,
)
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.models.pyramid import SimpleFeaturePyramid


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


# ---- activation checkpointing by the memory that there is

SIZES = dict(arch=dict(width=96, depth=4, heads=2), image_size=64, patch_size=8)
WRAPPER = dict(optimizer=dict(type='AdamW', lr=1e-3))


def model_of(kind: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    if kind == 'pretraining':
        return MODELS.build(dict(type='mae_backbone.MAEPretrainer', decoder_width=64, decoder_depth=4, decoder_heads=2,
                                 encoder=SIZES | options))
    if kind == 'classification':
        return MODELS.build(dict(type='mae_backbone.ViTClassifier', backbone=SIZES | options, num_classes=5))
    model = nn.Module()  # as a detector: its heads do not count
    model.backbone = ViTBackbone(**SIZES, window_size=4, **options)
    model.neck = SimpleFeaturePyramid(96, out_channels=16, input_stride=8, strides=(4, 8, 16))
    return model


def step_of(kind: str, model: nn.Module, images: torch.Tensor) -> None:
    """Forward and backward pass, with labels for a classifier."""
    if kind == 'pretraining':
        loss = model(images, mode='loss')['loss']
    elif kind == 'classification':
        loss = model(images, torch.zeros(len(images), dtype=torch.long), mode='loss')['loss']
    else:
        loss = sum(level.square().mean() for level in model.neck(model.backbone(images)))
    loss.backward()


def measured(work: Callable[[], object]) -> int:
    """Peak of the bytes that `work` allocates."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == '[memory]']
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize('every', [0, 1, 2, 3])
@pytest.mark.parametrize('kind', ['pretraining', 'classification', 'detection'])
def test_estimate_is_within_a_tenth_of_what_is_measured(kind: str, every: int):
    model = model_of(kind, checkpointing=every)
    memory = training_memory(model, WRAPPER, 64)
    assert memory.complete == (kind != 'detection')
    assert all(p.grad is None for p in model.parameters())
    images = torch.rand(64, 3, 64, 64)
    step_of(kind, model, images)  # what the first step makes and keeps
    model.zero_grad()
    assert measured(lambda: step_of(kind, model, torch.rand(64, 3, 64, 64))) == pytest.approx(memory.step.step, rel=0.1)


@pytest.mark.parametrize('kind', ['pretraining', 'detection'])
def test_each_choice_needs_less_memory_and_gradients_stay(kind: str):
    steps, gradients = [], []
    images = torch.rand(2, 3, 64, 64)
    for every in CHECKPOINTING:
        model = model_of(kind, checkpointing=every, drop_path_rate=0.3)
        steps.append(training_memory(model, WRAPPER, 16).step.step)
        torch.manual_seed(1)
        step_of(kind, model, images)
        gradients.append([p.grad for p in model.parameters() if p.requires_grad])
    assert max(steps[1:]) < steps[0]
    assert steps[-1] == min(steps) < 0.8 * steps[0]
    for one in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(one, gradients[0], strict=True))


def test_the_fastest_value_that_fits_is_chosen(monkeypatch: pytest.MonkeyPatch):
    estimates: dict[tuple, TrainingMemory] = {}

    def estimate(model: nn.Module, wrapper: dict, batch: int) -> TrainingMemory:
        """Computes the memory of each choice of blocks once."""
        blocks = tuple(module.checkpointed for module in model.modules() if hasattr(module, 'checkpointed'))
        if blocks not in estimates:
            estimates[blocks] = training_memory(model, wrapper, batch)
        return estimates[blocks]
    monkeypatch.setattr(memory_estimate, 'training_memory', estimate)
    needed = {every: training_memory(model_of('pretraining', checkpointing=every), WRAPPER, 16).step.total
              for every in CHECKPOINTING}
    for every, total in needed.items():
        model = model_of('pretraining')
        assert choose_checkpointing(model, WRAPPER, 16, total) == (every, total)
        blocks = [*model.mae.encoder.blocks, *model.mae.decoder.decoder_blocks]
        assert sum(block.checkpointed for block in blocks) == {0: 0, 1: 8, 2: 4, 3: 4, 4: 2}[every]
    with pytest.raises(ValueError, match=r'with every block computed again, and --memory is .*try --batch-size \d+'):
        choose_checkpointing(model_of('pretraining'), WRAPPER, 16, 0.9 * needed[1])
    with pytest.raises(ValueError, match='a smaller model'):
        choose_checkpointing(model_of('pretraining'), WRAPPER, 16, 1000)
    with pytest.raises(ValueError, match='this model has none'):
        choose_checkpointing(nn.Linear(2, 2), WRAPPER, 16, 1e9)


def test_a_negative_value_is_refused():
    with pytest.raises(ValueError, match=r'checkpointing=-1, expected 0 \(none\)'):
        model_of('pretraining', checkpointing=-1)
