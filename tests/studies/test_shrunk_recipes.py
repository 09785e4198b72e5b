"""The shrunk recipes differ from the recipes of COCO and ADE20K in their sizes only, and their models fit together."""
import pytest
import torch
from helpers.config_files import load, read, scope
from mmengine.registry import MODELS

RECIPES = {
    'tools/studies/shrunk_mask-rcnn.py': 'configs/detection/mask-rcnn_vitdet-b_100e_coco.py',
    'tools/studies/shrunk_faster-rcnn.py': 'configs/detection/faster-rcnn_vitdet-b_100e_coco.py',
    'tools/studies/shrunk_upernet.py': 'configs/segmentation/upernet_vit-b_160k_ade20k-512x512.py',
}


@pytest.mark.parametrize('name', RECIPES)
def test_optimizer_and_order_of_the_pipeline_are_kept(name: str):
    shrunk, recipe = read(name), read(RECIPES[name])
    assert shrunk.optim_wrapper == recipe.optim_wrapper
    for loader in ('train_dataloader', 'val_dataloader'):
        assert [step.type for step in shrunk[loader].dataset.pipeline] == [
            step.type for step in recipe[loader].dataset.pipeline]


@pytest.mark.parametrize('name', RECIPES)
def test_pyramid_fits_the_encoder(name: str):
    cfg = load(name)
    with scope(cfg):
        model = MODELS.build(cfg.model)
    maps = model.extract_feat(torch.rand(1, 3, 192, 192))
    assert [192 // features.shape[-1] for features in maps] == [4, 8, 16, 32, 64][:len(maps)]
