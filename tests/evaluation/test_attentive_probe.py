"""Attentive probe: finds what the mean of the tokens lacks, and is selected like the linear probe."""
import pytest
import torch

from mae_backbone.evaluation.attentive_probe import AttentiveHead, attentive_probe
from mae_backbone.evaluation.feature_cache import Features
from mae_backbone.evaluation.linear_probe import linear_probe
from mae_backbone.models.classifier import ViTClassifier


def marked(number: int, *, seed: int) -> Features:
    """Six tokens, one of which has a mark and the sign of the class; the others have random signs and no mark."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, 6, 8, generator=generator) * 0.1
    signs = torch.randint(2, (number, 6), generator=generator)
    values[..., 1] += 4.0 * signs - 2
    place = torch.randint(6, (number,), generator=generator)
    values[torch.arange(number), place, 0] += 3
    return Features(values.half(), signs[torch.arange(number), place])


def test_probe_attends_to_the_token_with_the_class():
    train, test = marked(1000, seed=0), marked(500, seed=1)
    result = attentive_probe(train, test, heads=2, lrs=[1e-2], batch_size=64)
    mean = linear_probe(*(Features(part.values.float().mean(dim=1), part.labels) for part in (train, test)), lrs=[0.1])
    assert result.accuracy > 95
    assert mean.accuracy < 75
    assert result.held_out == {}


def test_selection_and_seed_equal_the_linear_probe():
    train, test = marked(200, seed=0), marked(100, seed=1)
    options = dict(heads=2, lrs=[1e-5, 1e-2], epochs=8, batch_size=64)
    torch.manual_seed(1)
    first = attentive_probe(train, test, **options)
    torch.manual_seed(2)
    second = attentive_probe(train, Features(test.values, test.labels.flip(0)), **options)
    assert first.chosen.lr == 1e-2 == second.chosen.lr
    assert first.held_out == second.held_out
    assert torch.equal(first.predictions, second.predictions)
    other = attentive_probe(train, test, seed=3, **options)
    assert not torch.equal(other.predictions, first.predictions)


def test_head_equals_the_head_of_the_classifier():
    torch.manual_seed(0)
    model = ViTClassifier(dict(arch=dict(width=8, depth=1, heads=2), image_size=8, patch_size=4), num_classes=3,
                          pool='attention', probe=True).eval()
    head = AttentiveHead(8, heads=2, num_classes=3, seed=0).eval()
    head.load_state_dict({name.replace('head_norm', 'norm'): value for name, value in model.state_dict().items()
                          if not name.startswith('backbone.')})
    images = torch.randn(2, 3, 8, 8)
    tokens = model.backbone.encode(model.backbone.embed(images))
    scores = torch.stack([output['scores'] for output in model(images, mode='predict')])
    torch.testing.assert_close(head(tokens).softmax(dim=1), scores)


@pytest.mark.parametrize(('shape', 'heads', 'says'), [
    ((4, 8), 2, r"features are \(4, 8\) and .*pooling='tokens'"),
    ((4, 6, 8), 3, 'heads=3 does not divide the width 8')])
def test_features_that_are_not_tokens_are_refused(shape: tuple, heads: int, says: str):
    features = Features(torch.zeros(shape), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=says):
        attentive_probe(features, features, heads=heads)


def test_labels_above_num_classes_are_refused():
    features = Features(torch.randn(6, 5, 8), torch.arange(6))
    with pytest.raises(ValueError, match='labels are from 0 to 5, expected 0 to 2 for 3 classes'):
        attentive_probe(features, features, heads=2, num_classes=3)


@pytest.mark.parametrize(('number', 'batch_size'), [(1, 64), (8, 1)])
def test_batches_of_one_image_would_train_nothing_and_are_refused(number: int, batch_size: int):
    train = marked(number, seed=0)
    with pytest.raises(ValueError, match='expected batches of at least 2'):
        attentive_probe(train, train, heads=2, epochs=1, batch_size=batch_size)
