"""The attentive probe: what it finds that no mean of the tokens has, and what it shares with the linear one."""
import pytest
import torch

from mae_backbone.evaluation.attentive_probe import AttentiveHead, attentive_probe
from mae_backbone.evaluation.feature_cache import Features
from mae_backbone.evaluation.linear_probe import linear_probe
from mae_backbone.models.classifier import ViTClassifier


def marked(number: int, *, seed: int) -> Features:
    """Of 6 tokens one has a mark, and the sign of the class; the others have signs of their own, without a mark."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, 6, 8, generator=generator) * 0.1
    signs = torch.randint(2, (number, 6), generator=generator)
    values[..., 1] += 4.0 * signs - 2
    place = torch.randint(6, (number,), generator=generator)
    values[torch.arange(number), place, 0] += 3
    return Features(values.half(), signs[torch.arange(number), place])


def test_it_looks_where_the_class_is():
    train, test = marked(1000, seed=0), marked(500, seed=1)
    found = attentive_probe(train, test, heads=2, lrs=[1e-2], batch_size=64)
    mean = linear_probe(*(Features(part.values.float().mean(dim=1), part.labels) for part in (train, test)), lrs=[0.1])
    assert found.accuracy > 95
    assert mean.accuracy < 75
    assert found.held_out == {}


def test_it_is_chosen_and_seeded_as_the_linear_one():
    train, test = marked(200, seed=0), marked(100, seed=1)
    options = dict(heads=2, lrs=[1e-5, 1e-2], epochs=8, batch_size=64)
    torch.manual_seed(1)
    one = attentive_probe(train, test, **options)
    torch.manual_seed(2)
    two = attentive_probe(train, Features(test.values, test.labels.flip(0)), **options)
    assert one.chosen.lr == 1e-2 == two.chosen.lr
    assert one.held_out == two.held_out
    assert torch.equal(one.answers, two.answers)
    assert not torch.equal(attentive_probe(train, test, seed=3, **options).answers, one.answers)


def test_it_is_the_head_of_the_classifier():
    torch.manual_seed(0)
    model = ViTClassifier(dict(arch=dict(width=8, depth=1, heads=2), image_size=8, patch_size=4), num_classes=3,
                          pool='attention', probe=True).eval()
    head = AttentiveHead(8, heads=2, classes=3, seed=0).eval()
    head.load_state_dict({name.replace('head_norm', 'norm'): value for name, value in model.state_dict().items()
                          if not name.startswith('backbone.')})
    images = torch.randn(2, 3, 8, 8)
    tokens = model.backbone.encode(model.backbone.embed(images))
    scores = torch.stack([one['scores'] for one in model(images, mode='predict')])
    torch.testing.assert_close(head(tokens).softmax(dim=1), scores)


@pytest.mark.parametrize(('shape', 'heads', 'says'), [
    ((4, 8), 2, r"features are \(4, 8\) and .*pooling='tokens'"), ((4, 6, 8), 3, 'heads=3 do not divide the width 8')])
def test_mistakes_are_named(shape: tuple, heads: int, says: str):
    features = Features(torch.zeros(shape), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=says):
        attentive_probe(features, features, heads=heads)


def test_labels_beyond_the_classes_are_refused():
    features = Features(torch.randn(6, 5, 8), torch.arange(6))
    with pytest.raises(ValueError, match='labels are from 0 to 5, wanted 0 to 2 for 3 classes'):
        attentive_probe(features, features, heads=2, classes=3)
