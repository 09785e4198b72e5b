"""Prediction of an image and its figure, for tiny models of each task."""
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.shrink import write_coco
from helpers.tta_models import IMAGE, detector, segmenter_config
from mmengine.config import Config
from mmengine.registry import MODELS

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.utils.palette import palette


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
def test_classifier_predicts_and_draws_images_of_any_size(classifier, shape):
    predictor = Predictor(*classifier)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    result = predictor(image)
    assert float(result.sum()) == pytest.approx(1, abs=1e-5)
    assert predictor.describe(result).startswith('dog ')
    picture = predictor.draw(image, result)
    assert picture.dtype == np.uint8
    assert picture.shape[0] > 192, 'a small image is shown larger, under its title'


def test_numbers_beyond_float16_are_refused(classifier):
    """They became NaN, which is the first class."""
    cfg, path = classifier
    content = torch.load(path, weights_only=True)
    content['state_dict']['backbone.blocks.0.mlp.fc2.weight'] *= 1e10
    torch.save(content, path)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.isfinite(Predictor(cfg, path)(image)).all()
    with pytest.raises(ValueError, match=r'not finite in float16: choose --dtype bfloat16 or float32'):
        Predictor(cfg, path, dtype='float16')(image)


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_numbers_beyond_float16_are_no_background(task, tmp_path):
    """They were no objects, or the first class."""
    if task == 'detection':
        write_coco(tmp_path)
        cfg, model = detector('mask-rcnn_vitdet-b_100e_coco', tmp_path)
        model.neck.simfp_2[0].weight.data *= 1e10
    else:
        cfg = segmenter_config()
        model = MODELS.build(cfg.model)
        model.decode_head.convs[0].conv.weight.data *= 1e10
    torch.save({'meta': {}, 'state_dict': model.state_dict()}, tmp_path / 'a.pth')
    Predictor(cfg, tmp_path / 'a.pth')(IMAGE)
    with pytest.raises(ValueError, match=r'computes numbers that are not finite in float16: choose --dtype'):
        Predictor(cfg, tmp_path / 'a.pth', dtype='float16')(IMAGE)


def test_checkpoint_of_another_model_is_refused(classifier):
    cfg, path = classifier
    cfg.model.num_classes = 5
    with pytest.raises(CheckpointError, match=r'head.weight: \(3, 16\) in the file, \(5, 16\) in the model'):
        Predictor(cfg, path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused(classifier, value):
    cfg, path = classifier
    content = torch.load(path, weights_only=True)
    content['state_dict']['head.weight'][1, 2] = value
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r'holds NaN or infinite values in 1 of .*head\.weight'):
        Predictor(cfg, path)


def test_checkpoint_with_names_of_other_classes_than_its_model_is_refused(classifier):
    cfg, path = classifier
    content = torch.load(path, weights_only=True)
    content['meta']['dataset_meta'] = {'classes': ('cat', 'dog\x1b[2J')}
    torch.save(content, path)
    with pytest.raises(ValueError, match=r'have 2 classes \(cat, dog\\x1b\[2J\), the model has 3'):
        Predictor(cfg, path)


@pytest.mark.parametrize('color', [3, (1, 2), (1, 2, 'x'), (1, 2, 256), (0, 0, 1.5)])
def test_palettes_that_are_no_colors_are_replaced(classifier, color):
    cfg, path = classifier
    content = torch.load(path, weights_only=True)
    content['meta']['dataset_meta']['palette'] = [(1, 2, 3), (4, 5, 6), color]
    torch.save(content, path)
    assert Predictor(cfg, path).colors == palette(3)


def test_pretraining_config_is_refused(classifier, tmp_path):
    cfg, path = classifier
    cfg.model = dict(type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
                     encoder=dict(arch=dict(width=16, depth=1, heads=2), image_size=16, patch_size=8))
    torch.save({'meta': {}, 'state_dict': MODELS.build(cfg.model).state_dict()}, path)
    with pytest.raises(ValueError, match='mae-backbone visualize'):
        Predictor(cfg, path)


def saved(model: torch.nn.Module, classes: tuple[str, ...], folder: Path) -> Path:
    path = folder / 'iter_1.pth'
    torch.save({'meta': {'dataset_meta': {'classes': classes}}, 'state_dict': model.state_dict()}, path)
    return path


@pytest.fixture
def segmenter(tmp_path):
    """A config and a checkpoint of a tiny segmenter whose classes differ from place to place."""
    cfg = segmenter_config()
    model = MODELS.build(cfg.model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=1.0)
    return cfg, saved(model, ('a', 'b', 'c', 'd'), tmp_path)


def test_tiles_of_a_segmenter_equal_mmseg_windows(segmenter):
    cfg, path = segmenter
    tiled = Predictor(cfg, path, tile=32, overlap=0.25)(IMAGE)
    cfg.model.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(24, 24))
    windows = Predictor(cfg, path)(IMAGE)
    assert tiled.shape == windows.shape == IMAGE.shape[:2]
    assert len(np.unique(windows)) > 2
    assert (tiled == windows).mean() > 0.999
    cfg.model.test_cfg = dict(mode='whole')
    assert (Predictor(cfg, path, tile=200)(IMAGE) == Predictor(cfg, path)(IMAGE)).all()


@pytest.mark.parametrize('threshold', [float('nan'), -0.1, 1.1, 30])
def test_a_threshold_is_a_score(segmenter, threshold):
    message = rf'the threshold is {threshold}, expected a score from 0 \(all objects\) to 1'
    with pytest.raises(ValueError, match=message):
        Predictor(*segmenter, threshold=threshold)
    with pytest.raises(ValueError, match=message):
        Predictor(*segmenter).with_options(threshold=threshold)


@pytest.mark.parametrize('shape', [(1, 40), (40, 1)])
def test_labels_of_an_image_one_pixel_wide_have_its_shape(segmenter, shape):
    segmenter[0].model.data_preprocessor.test_cfg = dict(size_divisor=16)
    assert Predictor(*segmenter)(np.zeros((*shape, 3), np.uint8)).shape == shape


@pytest.fixture(scope='module')
def predict(tmp_path_factory):
    """Predicts with a tiny detector for given options of the predictor."""
    root = tmp_path_factory.mktemp('coco')
    write_coco(root)
    cfg, model = detector('mask-rcnn_vitdet-b_100e_coco', root)
    path = saved(model, ('can', 'conditioner'), root)
    return lambda image, **options: Predictor(copy.deepcopy(cfg), path, **options)(image)


def test_tile_as_large_as_the_image_changes_no_instance(predict):
    whole, tiled = predict(IMAGE), predict(IMAGE, tile=64)
    assert len(whole) > 10
    assert (tiled.boxes == whole.boxes).all()
    assert tiled.masks == whole.masks


def test_instances_of_tiles_are_in_the_image_and_above_threshold(predict):
    image = np.concatenate([IMAGE, IMAGE[::-1], IMAGE], 1)
    instances = predict(image, tile=64, overlap=0.2, threshold=0.5)
    assert len(instances) > len(predict(IMAGE, threshold=0.5))
    assert (instances.scores >= 0.5).all()
    assert (instances.boxes >= 0).all()
    assert (instances.boxes <= np.float32([192, 64, 192, 64])).all()
    assert instances.boxes[:, 2].max() > 150
    for box, mask in zip(instances.boxes, instances.masks, strict=True):
        height, width = mask.to_mask().shape
        assert mask.left >= box[0] - 2
        assert mask.left + width <= box[2] + 2
        assert mask.top + height <= box[3] + 2


def test_tta_changes_the_prediction_and_keeps_masks(predict):
    plain, instances = predict(IMAGE), predict(IMAGE, tta=True)
    assert len(instances.masks) == len(instances) > 10
    assert len(instances) != len(plain) or not np.allclose(instances.scores, plain.scores)


def test_contradicting_options_are_refused(classifier, segmenter):
    with pytest.raises(ValueError, match='a classifier needs the whole image'):
        Predictor(*classifier, tile=64)
    with pytest.raises(ValueError, match='--tile and --tta cannot be combined'):
        Predictor(*segmenter, tile=64, tta=True)
    with pytest.raises(ValueError, match='expected a side of at least 1 pixel'):
        Predictor(*segmenter, tile=0)


def test_classes_without_names_are_numbered(segmenter):
    cfg, path = segmenter
    content = torch.load(path, weights_only=True)
    torch.save(content | {'meta': {}}, path)
    assert Predictor(cfg, path).classes == ('class 0', 'class 1', 'class 2', 'class 3')
