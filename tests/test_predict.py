"""From an image to a prediction and its picture; test_tools.py has detectors and segmenters, as a person runs them."""
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from mae_backbone.checkpoint import CheckpointError
from mae_backbone.predict import Predictor, _enlarged_instances


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
    assert float(result['scores'].sum()) == pytest.approx(1, abs=1e-5)
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


@pytest.mark.parametrize('annotated', [True, False])
def test_enlarging_keeps_boxes_on_their_masks(annotated):
    mask = torch.zeros(1, 6, 8, dtype=torch.uint8)
    mask[0, 1:4, 2:7] = 1
    box = torch.tensor([[2.0, 1.0, 7.0, 4.0]])
    found = InstanceData(labels=torch.tensor([0]))
    found.bboxes = HorizontalBoxes(box) if annotated else box
    found.masks = BitmapMasks(mask.numpy(), 6, 8) if annotated else mask
    larger = _enlarged_instances(DetDataSample(gt_instances=found), 'gt_instances', 3).gt_instances
    x1, y1, x2, y2 = larger.bboxes[0].astype(int).tolist()
    assert larger.masks.shape == (1, 18, 24)
    assert larger.masks[0, y1:y2, x1:x2].all()
    assert larger.masks.sum() == 9 * mask.sum()
