"""Test-time augmentation: one view changes nothing, flipped images have flipped predictions, masks are merged."""
import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.shrink import SIDE, write_coco
from helpers.tta_models import IMAGE, detector, segmenter_config
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch.testing import assert_close

import mae_backbone.detection
import mae_backbone.segmentation  # noqa: F401  both register what merges
from mae_backbone.prediction.predictor import image_pipeline
from mae_backbone.prediction.tta import use_tta, views

CONFIGS = Path(__file__).parents[2] / 'configs'
DETECTORS = ('mask-rcnn_vitdet-b_100e_coco', 'cascade-mask-rcnn_vitdet-b_100e_coco', 'faster-rcnn_vitdet-b_100e_coco')


@pytest.fixture(scope='module')
def coco(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('coco')
    write_coco(root)
    return root



def predict(cfg: Config, model: torch.nn.Module, image: np.ndarray = IMAGE, **tta) -> InstanceData:
    """Instances in an image; with `tta`, by that augmentation."""
    cfg = copy.deepcopy(cfg)
    if tta:
        cfg.tta = tta
        use_tta(cfg)
        model = MODELS.build({**cfg.tta_model, 'module': model})
    batch = {key: [[view] for view in value] if tta else [value] for key, value in image_pipeline(cfg)(image).items()}
    with torch.no_grad():
        return model.test_step(batch)[0].pred_instances


def by_score(found: InstanceData) -> InstanceData:
    return found[found.scores.sort(descending=True, stable=True).indices]


@pytest.mark.parametrize('name', DETECTORS)
def test_single_view_equals_plain_prediction(name, coco):
    cfg, model = detector(name, coco)
    for parameter_name, parameter in model.named_parameters():
        if 'conv_logits' in parameter_name:  # starts so small that all masks are about to be empty or full
            torch.nn.init.normal_(parameter, std=0.2)
    plain, found = (by_score(predict(cfg, model, **tta)) for tta in ({}, dict(ratios=[1.0], flip=False)))
    assert len(plain) == len(found) > 10
    assert_close(found.bboxes, plain.bboxes, atol=1e-3, rtol=0)
    assert_close(found.scores, plain.scores)
    assert found.labels.equal(plain.labels)
    if 'faster' not in name:
        assert (found.masks == plain.masks).float().mean() > 0.9999
        sides = plain.bboxes[:, 2:] - plain.bboxes[:, :2]
        filled = plain.masks.sum() / sides.prod(dim=1).sum()  # fraction of the boxes
        assert 0.01 < filled < 0.99


@pytest.mark.parametrize('name', DETECTORS)
def test_flipped_image_has_flipped_prediction(name, coco):
    cfg, model = detector(name, coco)
    found, other = (by_score(predict(cfg, model, np.ascontiguousarray(image), ratios=[1.0], flip=True))
                    for image in (IMAGE, IMAGE[:, ::-1]))
    assert_close(other.scores, found.scores, atol=1e-5, rtol=0)
    mirrored = torch.stack([SIDE - found.bboxes[:, 2], found.bboxes[:, 1], SIDE - found.bboxes[:, 0],
                            found.bboxes[:, 3]], 1)
    assert_close(other.bboxes, mirrored, atol=1e-2, rtol=0)
    if 'faster' not in name:
        assert (other.masks == found.masks.flip(2)).float().mean() > 0.999
    plain, mirrored = (by_score(predict(cfg, model, np.ascontiguousarray(image))) for image in (IMAGE, IMAGE[:, ::-1]))
    assert len(plain) != len(mirrored) or not torch.allclose(plain.scores, mirrored.scores, atol=1e-4), \
        'a model that does not see the mirror would prove nothing'


def test_sizes_are_merged_with_masks_at_image_size(coco):
    cfg, model = detector(DETECTORS[0], coco)
    found = predict(cfg, model, cv2.resize(IMAGE, (90, 50)), ratios=[1.0, 1.5], flip=True)
    assert found.masks.shape[1:] == (50, 90)
    assert len(found) == len(found.masks) == len(found.scores)
    assert (found.bboxes[:, 2] <= 90.01).all()


def test_views_without_instances_merge_to_none(coco):
    cfg, model = detector(DETECTORS[0], coco, **{'model.test_cfg.rcnn.score_thr': 2.0})
    found = predict(cfg, model, ratios=[1.0], flip=True)
    assert found.masks.shape == (0, SIDE, SIDE)


def test_masks_not_predicted_from_boxes_are_refused():
    model = torch.nn.Module()
    model.test_step, model.test_cfg, model.with_mask = None, {}, True
    with pytest.raises(ValueError, match='cannot merge the masks of Module'):
        MODELS.build(dict(type='mae_backbone.DetectionTTA', module=model))




@pytest.mark.parametrize(('kind', 'one_logit'), [
    ('mae_backbone.SegmentationTTA', False), ('mae_backbone.SegmentationTTA', True), ('mmseg.SegTTAModel', False)])
@pytest.mark.filterwarnings('ignore:The shape of value will convert:UserWarning')
def test_segmenter_single_view_is_plain_and_flips_are_symmetric(kind, one_logit):
    cfg = segmenter_config(one_logit=one_logit)
    cfg.tta_model = dict(type=kind)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).eval()
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=1.0)

    def labels(image: np.ndarray, **tta) -> torch.Tensor:
        mine = copy.deepcopy(cfg)
        merging = model
        if tta:
            mine.tta = tta
            use_tta(mine)
            merging = MODELS.build({**mine.tta_model, 'module': model})
        data = image_pipeline(mine)(np.ascontiguousarray(image))
        with torch.no_grad():
            return merging.test_step({key: [[view] for view in value] if tta else [value]
                                      for key, value in data.items()})[0].pred_sem_seg.data.squeeze()
    assert labels(IMAGE, ratios=[1.0], flip=False).equal(labels(IMAGE))
    both = dict(ratios=[1.0, 1.5], flip=True)
    assert (labels(IMAGE, **both) == labels(IMAGE[:, ::-1], **both).flip(1)).float().mean() > 0.999
    assert (labels(IMAGE) != labels(IMAGE[:, ::-1]).flip(1)).float().mean() > 0.01


def test_views_scale_resize_and_load_annotations_last():
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
             dict(type='Resize', scale=(2048, 512), keep_ratio=True),
             dict(type='PackSegInputs', meta_keys=('img_path',))]
    load, augment = views(steps, [0.5, 1.0], True)
    assert load['type'] == 'LoadImageFromFile'
    sizes, flips, annotations, pack = augment['transforms']
    assert [size['scale'] for size in sizes] == [(1024, 256), (2048, 512)]
    assert [flip['prob'] for flip in flips] == [0.0, 1.0]
    assert annotations[0]['type'] == 'LoadAnnotations'
    assert pack[0]['meta_keys'] == ('img_path', 'flip', 'flip_direction')
    assert steps[3]['meta_keys'] == ('img_path',), 'the plain pipeline is not changed'
    with pytest.raises(ValueError, match='expects scale'):
        views([steps[0], dict(type='Resize', size=3), steps[3]], [1.0], False)


def test_tta_pipeline_of_a_config_is_used():
    cfg = segmenter_config()
    cfg.tta_pipeline = [dict(type='LoadImageFromFile'), dict(type='TestTimeAug', transforms=[[dict(type='Resize')]])]
    cfg.tta_model = ConfigDict(type='SegTTAModel', data_preprocessor=None)
    assert 'tta_pipeline' in use_tta(cfg)
    assert cfg.test_dataloader.dataset.pipeline == cfg.tta_pipeline
    with pytest.raises(ValueError, match='for detectors and segmenters'):
        use_tta(Config(dict(default_scope='mmengine')))


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match=r'tta\.ratio does not exist: expected tta\.ratios or tta\.flip'):
        use_tta(Config(dict(default_scope='mmdet', tta=dict(ratio=[0.5]))))
