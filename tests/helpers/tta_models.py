"""Small detectors and segmenters with random weights."""
from pathlib import Path

import cv2
import numpy as np
import torch
from helpers.shrink import SIDE, shrink
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import mae_backbone.detection
import mae_backbone.segmentation  # noqa: F401  both register what merges

# As large as the model's, so that nothing is padded: padding is on the right alone, and no mirror.
CONFIGS = Path(__file__).parents[2] / 'configs'
IMAGE = cv2.resize(np.random.default_rng(3).integers(0, 256, (8, 8, 3), np.uint8), (SIDE, SIDE))


def detector(name: str, coco: Path, **options) -> tuple[Config, torch.nn.Module]:
    """A config for the tiny set, and its model: without training, yet with scores and masks that differ."""
    cfg = shrink(Config.fromfile(CONFIGS / 'detection' / f'{name}.py'), coco)
    cfg.merge_from_dict(options)
    init_default_scope('mmdet')
    torch.manual_seed(1)
    model = MODELS.build(cfg.model).eval()
    for head in model.roi_head.bbox_head if 'cascade' in name else [model.roi_head.bbox_head]:
        torch.nn.init.normal_(head.fc_cls.weight, std=0.5)
    if model.with_mask:
        torch.nn.init.normal_(model.roi_head.mask_head.conv_logits.weight, std=1.0)
    return cfg, model


def segmenter_config(*, one_logit: bool = False) -> Config:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
    dataset = dict(type='BaseSegDataset', pipeline=pipeline)
    return Config(dict(default_scope='mmseg', test_dataloader=dict(dataset=dataset), model=dict(
        type='mmseg.EncoderDecoder', test_cfg=dict(mode='whole'), train_cfg=dict(),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[127.0] * 3, std=[60.0] * 3),
        backbone=dict(type='mae_backbone.ViTBackbone', arch=dict(width=16, depth=2, heads=2), patch_size=8,
                      image_size=SIDE),
        decode_head=dict(type='mmseg.FCNHead', in_channels=16, channels=16, in_index=0, num_convs=1,
                         align_corners=False, num_classes=2 if one_logit else 4, out_channels=1 if one_logit else 4,
                         threshold=0.4 if one_logit else None,
                         loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=one_logit)))))
