"""One forward pass and one data loader for all features of frozen models."""
import pytest
import torch
from torch.testing import assert_close
from torch.utils.data import Dataset

from mae_backbone.evaluation.feature_extractor import POOLINGS, extract_features, forward_batch, labels_of, token_spread
from mae_backbone.models.classifier import ViTClassifier


class Images(Dataset):
    def __init__(self, labels: list) -> None:
        self.labels = labels
        self.images = torch.randint(256, (len(labels), 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {'inputs': self.images[index], 'data_samples': self.labels[index]}


@pytest.fixture
def model() -> ViTClassifier:
    return ViTClassifier(dict(arch=dict(width=16, depth=1, heads=2), image_size=8, patch_size=4), num_classes=0,
                         data_preprocessor=dict(type='ImgDataPreprocessor', mean=[100.0] * 3, std=[50.0] * 3)).eval()


@pytest.mark.parametrize('workers', [0, 1])
def test_features_are_pooled_tokens_in_order(model: ViTClassifier, workers: int):
    images, indices = Images([0, 1, 2, 3, 4]), [4, 0, 3]
    state = torch.get_rng_state()
    batches = list(extract_features(model, images, indices, poolings=[*POOLINGS], batch_size=2, workers=workers))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.cat([labels for _, labels in batches]).tolist() == indices
    tokens = model((images.images[indices].float() - 100) / 50, mode='tokens').detach()
    for name, pooling in POOLINGS.items():
        features = torch.cat([features[name] for features, _ in batches])
        assert not features.requires_grad
        assert_close(features, pooling(tokens))


def test_dtype_is_computed_in_and_converted_back(model: ViTClassifier):
    (low, _), = extract_features(model, Images([0]), [0], poolings=['mean'], batch_size=2, workers=0, dtype='bfloat16')
    (high, _), = extract_features(model, Images([0]), [0], poolings=['mean'], batch_size=2, workers=0)
    assert low['mean'].dtype == torch.float32
    assert not torch.equal(low['mean'], high['mean'])
    assert_close(low['mean'], high['mean'], atol=0.1, rtol=0.1)


def test_mode_reaches_the_model(model: ViTClassifier):
    batch = {'inputs': list(Images([0, 1]).images)}
    assert forward_batch(model, batch, mode='tokens').shape == (2, 5, 16)
    assert forward_batch(model, batch, mode='tensor').shape == (2, 16)


@pytest.mark.parametrize(('batch', 'labels'), [
    ({}, None), ({'data_samples': None}, None), ({'data_samples': [1, None]}, None), ({'data_samples': [2, 1]}, [2, 1]),
    ({'data_samples': torch.tensor([3, 0])}, [3, 0])])
def test_labels_are_known_for_all_images_or_for_none(batch: dict, labels: list | None):
    result = labels_of(batch)
    assert result is None if labels is None else result.tolist() == labels


def test_spread_is_0_for_equal_tokens_and_near_1_for_unlike_ones():
    assert token_spread(torch.ones(2, 1, 8).expand(2, 9, 8)).tolist() == [0, 0]
    assert (token_spread(torch.randn(3, 4000, 4)) > 0.99).all()
    tokens = torch.randn(2, 5, 8) + 1
    assert_close(token_spread(3 * tokens), token_spread(tokens))
    assert token_spread(torch.zeros(1, 4, 2)).tolist() == [0]
