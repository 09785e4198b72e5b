"""From an image to a prediction and its picture; test_tools.py has detectors and segmenters, as a person runs them."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mae_backbone.checkpoint import CheckpointError
from mae_backbone.prediction.predictor import Predictor


@pytest.fixture
def classifier(tmp_path):
    """A config and a checkpoint of a tiny classifier whose head always votes for the second class."""
    cfg = Config(dict(
        model=dict(
            type='mae_backbone.ViTClassifier', num_classes=3,
            backbone=dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=8),
            data_preprocessor=dict(type='ImgDataPreprocessor', mean=[127.0] * 3, std=[60.0] * 3)),
        test_dataloader=dict(dataset=dict(type='mae_backbone.ClassFolder', image_size=16))))
    model = MODELS.build(cfg.model)
    model.head.bias.data = torch.tensor([0.0, 9.0, 0.0])
    path = tmp_path / 'epoch_1.pth'
    torch.save({'meta': {'dataset_meta': {'classes': ('cat', 'dog', 'fox')}}, 'state_dict': model.state_dict()}, path)
    return cfg, path


@pytest.mark.parametrize('shape', [(40, 30, 3), (16, 16, 3), (9, 300, 3)])
def test_a_classifier_names_an_image_of_any_size_and_draws_it(classifier, shape):
    predictor = Predictor(*classifier)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    result = predictor(image)
    assert float(result.sum()) == pytest.approx(1, abs=1e-5)
    assert predictor.describe(result).startswith('dog ')
    picture = predictor.draw(image, result)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > 192, 'a small image is shown larger, under its title'


def test_a_checkpoint_of_another_model_is_refused(classifier):
    cfg, path = classifier
    cfg.model.num_classes = 5
    with pytest.raises(CheckpointError, match=r'head.weight: \(3, 16\) in the file, \(5, 16\) in the model'):
        Predictor(cfg, path)


def test_a_pretraining_config_predicts_nothing(classifier, tmp_path):
    cfg, path = classifier
    cfg.model = dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
                     encoder=dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=8))
    torch.save({'meta': {}, 'state_dict': MODELS.build(cfg.model).state_dict()}, path)
    with pytest.raises(ValueError, match=r'tools/visualize.py'):
        Predictor(cfg, path)
