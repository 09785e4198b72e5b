"""Planned configs are read and their models built, whatever the machine and the weights."""
from importlib.util import find_spec

import pytest
import torch
from helpers.fingerprints import GPU, LAPTOP, LARGE_GPU, SMALL_GPU, users
from mmengine import registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mae_backbone.formats.class_folders import ClassFolders
from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.dataset_spec import DatasetSpec
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.planning.config_text import config_text
from mae_backbone.planning.make_plan import make_plan
from mae_backbone.planning.own_data import OwnData
from mae_backbone.planning.plan import PlanOptions, WeightFacts
from mae_backbone.utils.config_files import drop_scope

USERS = users()
OWN = WeightFacts('mae.pth', dict(width=128, depth=6, heads=4), 128, 6, 8, 64, (40.0,) * 3, (60.0,) * 3, True)
BASE = WeightFacts('vit.pth', 'base', 768, 12, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
LARGE = WeightFacts('large.pth', 'large', 1024, 24, 14, 518)
FORMATS = {
    'detection': (CocoFormat, lambda split: dict(ann_file=f'annotations/instances_{split}.json',
                                                 data_prefix=dict(img=split))),
    'segmentation': (LabelMaps, lambda split: dict(data_prefix=dict(img_path=split, seg_map_path=f'{split}_maps'),
                                                   img_suffix='.jpg', seg_map_suffix='.png')),
    'classification': (ClassFolders, lambda split: dict(split=split)),
}


def data_of(task: str, classes: list[str]) -> OwnData:
    """Data of a task without any files."""
    cls, options = FORMATS[task]
    return OwnData(task, '/data/own', {split: cls(DatasetSpec(split, ConfigDict(options(split)), None))
                                       for split in ('train', 'val')}, classes)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'machine', 'weights'), [
    ('cells on a laptop', LAPTOP, None), ('cells on a laptop', LAPTOP, OWN), ('cells on a laptop', LAPTOP, BASE),
    ('traffic on a GPU with 24 GB', GPU, None), ('traffic on a GPU with 24 GB', LARGE_GPU, LARGE),
    ('defects in large images on a GPU with 8 GB', SMALL_GPU, None),
    ('vessels on a laptop', LAPTOP, BASE), ('satellite scenes on a GPU with 80 GB', LARGE_GPU, None),
    ('satellite scenes on a GPU with 80 GB', GPU, LARGE),
    ('defects in large images on a GPU with 8 GB', SMALL_GPU, BASE), ('vessels on a laptop', GPU, None),
    ('products on a GPU with 8 GB', SMALL_GPU, None), ('products on a GPU with 8 GB', SMALL_GPU, OWN),
])
def test_models_are_built(tmp_path, name, machine, weights):
    fingerprint = USERS[name][0]
    plan = make_plan(fingerprint, machine, PlanOptions(weights=weights, has_peft=find_spec('peft') is not None))
    for stage in plan.stages:
        pretrained = 'first.pth' if stage is plan.training and len(plan.stages) > 1 else None
        file = tmp_path / f'{stage.task}.py'
        file.write_text(config_text(plan, stage, data_of(fingerprint.task, list(fingerprint.classes)), file='own.py',
                                    train_images='/data/images', pretrained=pretrained))
        cfg = Config.fromfile(file)
        if stage.task == 'segmentation':
            assert cfg.train_dataloader.dataset.metainfo == dict(classes=tuple(fingerprint.classes), palette=[])
            assert cfg.val_dataloader.dataset.metainfo == cfg.train_dataloader.dataset.metainfo
        drop_scope(cfg._cfg_dict)  # as the commands do
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'), torch.device('meta'):
            model = registry.MODELS.build(cfg.model)
        owner = cfg.model if stage.task == 'pretraining' else cfg.model.backbone
        expected = pretrained or (weights and weights.path)
        if expected and not (stage.task == 'pretraining' and not weights):
            assert owner.init_cfg.checkpoint == expected
        assert sum(parameter.numel() for parameter in model.parameters()) > 1e6
