"""Inference speed: measured images, warm-up, and the printed lines."""
import pytest
import torch
from torch import nn

from mae_backbone.benchmark import inference


class Counting(nn.Module):
    """Records the images that it predicts."""

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
def test_median_is_over_the_images_after_the_warm_up():
    model, calls = Counting(), []
    result = inference.measure(model, [{'inputs': number} for number in range(5)], images=8, warmup=3,
                          progress=lambda *done: calls.append(done))
    assert result['model_ms'] == pytest.approx(25)
    assert result['model_images_per_s'] == pytest.approx(40)
    assert result['model_ms_range'] == pytest.approx([10, 40])
    assert [batch[0] for batch in model.seen] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0], 'one at a time, repeated'
    assert calls[-1] == (11, 11)
    assert result['pipeline_ms'] > 0
    assert result['peak_memory'] > 0
    assert not model.training


@pytest.mark.usefixtures('clock')
def test_lines_state_the_result():
    result = inference.measure(Counting(), [{'inputs': 0}], images=8, warmup=3)
    text = '\n'.join(inference.lines(result))
    for words in ('25.0 ms per image, 40.00 images/s', '10.0 to 40.0 ms', 'median of 8 images after 3', 'peak memory'):
        assert words in text
