"""Low-rank adapters of checkpoints, added to the weights that they adapt."""
import pytest
import torch

from mae_backbone.checkpoints.adapters import merged_weights
from mae_backbone.checkpoints.reading import CheckpointError

WEIGHT, A, B = 'b.0.qkv.weight', 'b.0.qkv.lora_A.weight', 'b.0.qkv.lora_B.weight'


def weights(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {WEIGHT: torch.ones(6, 4), A: torch.full((2, 4), 2.0), B: torch.full((6, 2), 3.0), 'b.0.qkv.bias':
            torch.zeros(6)} | changes


def test_the_product_is_added():
    merged = merged_weights(weights())
    assert merged.keys() == {WEIGHT, 'b.0.qkv.bias'}
    assert torch.equal(merged[WEIGHT], torch.full((6, 4), 13.0))


def test_weights_without_adapters_are_the_same_objects():
    before = {'weight': torch.ones(2)}
    assert merged_weights(before)['weight'] is before['weight']


@pytest.mark.parametrize(('content', 'message'), [
    ({name: value for name, value in weights().items() if name != B}, 'has no b.0.qkv.lora_B.weight'),
    ({name: value for name, value in weights().items() if name != WEIGHT}, 'has no b.0.qkv.weight'),
    (weights(**{A: torch.ones(2, 5)}), r'has \(2, 5\) and \(6, 2\), its weight \(6, 4\)'),
    (weights(**{B: torch.ones(6, 3)}), r'has \(2, 4\) and \(6, 3\)'),
    (weights(**{A: torch.ones(2)}), r'has \(2,\)'),
])
def test_damaged_adapters_are_refused(content, message):
    with pytest.raises(CheckpointError, match=message):
        merged_weights(content)
