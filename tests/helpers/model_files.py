"""Checkpoints of tiny models of each task with random weights and the config inside, as a run writes them."""
from pathlib import Path

import torch
from helpers.shrink import write_coco
from helpers.tta_models import detector, segmenter_config
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

CLASSES = {'detection': ('aerosol_can', 'air_conditioner'), 'segmentation': ('sky', 'road', 'car', 'tree'),
           'classification': ('cat', 'dog', 'fox')}
TASKS = tuple(CLASSES)
_PREPROCESSOR = dict(type='mae_backbone.PixelPreprocessor', mean=[127.0, 120.0, 110.0], std=[60.0, 61.0, 62.0])
_ARCH = dict(width=16, depth=2, heads=2)


def classifier_config() -> Config:
    return Config(dict(
        model=dict(type='mae_backbone.ViTClassifier', num_classes=3, data_preprocessor=_PREPROCESSOR,
                   backbone=dict(arch=_ARCH, image_size=16, patch_size=8)),
        test_dataloader=dict(dataset=dict(type='mae_backbone.ClassFolder', data_root='data', split='val',
                                          image_size=16))))


def mae_config() -> Config:
    return Config(dict(model=dict(
        type='mae_backbone.MAEPretrainer', decoder_width=16, decoder_depth=1, decoder_heads=2,
        data_preprocessor=_PREPROCESSOR, encoder=dict(arch=_ARCH, image_size=32, patch_size=8))))


def model_of(task: str, folder: Path) -> tuple[Config, nn.Module]:
    """A config and its model, with weights whose predictions differ from image to image."""
    if task == 'detection':
        write_coco(folder / 'coco')
        cfg, model = detector('mask-rcnn_vitdet-b_100e_coco', folder / 'coco')
    else:
        cfg = {'segmentation': segmenter_config, 'classification': classifier_config, 'pretraining': mae_config}[task]()
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
            torch.manual_seed(1)
            model = MODELS.build(cfg.model).eval()
    if task == 'classification':
        nn.init.normal_(model.head.weight, std=2.0)
    return cfg, model


def write_checkpoint(task: str, folder: Path, **meta: object) -> Path:
    """A checkpoint that holds its config, in a folder without one."""
    cfg, model = model_of(task, folder)
    DefaultScope._instance_dict.clear()
    path = folder / 'moved' / 'model.pth'
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset_meta = {'dataset_meta': {'classes': CLASSES[task]}} if task in CLASSES else {}
    torch.save({'meta': {'cfg': cfg.pretty_text, 'epoch': 1, 'iter': 10, **dataset_meta, **meta},
                'state_dict': model.state_dict()}, path)
    return path
