"""The memory of a step, computed without allocating it, is what the step takes."""
import os
import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mae_backbone.memory import states_per_weight, step_memory


def test_a_linear_layer_by_hand():
    """The step holds the input (5,000 numbers), the output for a while, and the gradients (10,100) at the end."""
    layer = nn.Linear(100, 100)
    found = step_memory(layer, lambda model: model(torch.zeros(50, 100)).sum(), torch.optim.AdamW(layer.parameters()))
    assert found.weights == 4 * (100 * 100 + 100)
    assert found.moments == 2 * found.weights
    assert 4 * (5_000 + 10_100) <= found.step <= 4 * (2 * 5_000 + 10_100 + 1_000)
    assert found.total == sum(found)


@pytest.mark.parametrize(('kind', 'options', 'states'), [
    ('AdamW', {}, 2), ('SGD', {}, 0), ('SGD', dict(momentum=0.9), 1), ('AdamW', dict(amsgrad=True), 3)])
def test_states_of_optimizers(kind: str, options: dict, states: int):
    assert states_per_weight(getattr(torch.optim, kind)([nn.Parameter(torch.zeros(3))], lr=1e-3, **options)) == states


def test_nothing_is_left_in_the_model_and_memory_grows_with_the_batch():
    model = MODELS.build(dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
                              encoder=dict(arch=dict(width=32, depth=2, heads=2), image_size=64, patch_size=8)))
    optimizer = torch.optim.AdamW(model.parameters())
    before = torch.get_rng_state()
    small, large = (step_memory(model, lambda m, b=b: m(torch.zeros(b, 3, 64, 64), mode='loss')['loss'], optimizer)
                    for b in (8, 32))
    assert 3 < large.step / small.step < 4.1
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), before)


MEASURE = '''
import psutil, resource, torch
from mmengine.registry import MODELS
from mae_backbone.memory import step_memory
torch.set_num_threads(1)
model = MODELS.build(dict(type='mae_backbone.MAEPretrainer', decoder_width=128, decoder_depth=4, decoder_heads=4,
                          encoder=dict(arch=dict(width=192, depth=6, heads=3), image_size=128, patch_size=8)))
optimizer = torch.optim.AdamW(model.parameters())
def loss_of(model, batch=128):
    return model(torch.zeros(batch, 3, 128, 128), mode='loss')['loss']
expected = step_memory(model, loss_of, optimizer)
loss_of(model, 2).backward()
optimizer.step(); optimizer.zero_grad()
base = psutil.Process().memory_info().rss  # and not the peak until here, which imports may have raised above it
loss_of(model).backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - base) / expected.step)
'''


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='counts kilobytes as Linux does')
def test_the_step_takes_what_was_computed_to_a_fifth():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', MEASURE], capture_output=True, text=True, check=False,
                          env={**os.environ, 'MALLOC_MMAP_THRESHOLD_': '65536'})
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) == pytest.approx(1, abs=0.2)
