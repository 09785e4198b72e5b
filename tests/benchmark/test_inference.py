"""The speed of a model: what is timed, how often, and what is said of it."""
import pytest
import torch
from torch import nn

from mae_backbone.benchmark import inference


class Counting(nn.Module):
    """Counts the images that it is shown, and takes as long as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(1)), []

    def test_step(self, data: dict) -> list:
        self.seen.append(data['inputs'])
        return []


@pytest.fixture
def clock(monkeypatch):
    """A clock on which the model takes 1 s for each of the first three images, then 10, 20, 30 and 40 ms in turn."""
    taken = iter([1.0, 1.0, 1.0] + [0.01, 0.02, 0.03, 0.04] * 10)
    monkeypatch.setattr(inference, 'seconds', lambda work, device: (work(), next(taken))[1])


@pytest.mark.usefixtures('clock')
def test_the_median_is_over_the_images_after_the_warm_up():
    model, told = Counting(), []
    found = inference.measure(model, [{'inputs': number} for number in range(5)], images=8, warmup=3,
                          progress=lambda *done: told.append(done))
    assert found['model_ms'] == pytest.approx(25)
    assert found['model_images_per_s'] == pytest.approx(40)
    assert found['model_ms_range'] == pytest.approx([10, 40])
    assert [batch[0] for batch in model.seen] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0], 'one at a time, in circles'
    assert told[-1] == (11, 11)
    assert found['pipeline_ms'] > 0
    assert found['peak_memory'] > 0
    assert not model.training


@pytest.mark.usefixtures('clock')
def test_what_was_found_is_said():
    found = inference.measure(Counting(), [{'inputs': 0}], images=8, warmup=3)
    said = '\n'.join(inference.lines(found))
    for words in ('25.0 ms an image, 40.00 images/s', '10.0 to 40.0 ms', 'median of 8 images after 3', 'peak memory'):
        assert words in said
