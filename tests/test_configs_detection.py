"""Every config of detection: it takes a step and is tested on a tiny set; its constants are those of its source."""
from pathlib import Path

import pytest
import torch
from shrink import shrink, write_coco
from test_configs import CONFIGS, load, look_up, rates, settings_of

from mae_backbone.cli import scale_learning_rate
from mae_backbone.run.runner import Runner

DETECTION = [file for file in CONFIGS if file.startswith('configs/detection/')]


@pytest.fixture(scope='module')
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A tiny COCO (False) and a tiny LVIS (True)."""
    roots = {lvis: tmp_path_factory.mktemp('lvis' if lvis else 'coco') for lvis in (False, True)}
    for lvis, root in roots.items():
        write_coco(root, lvis=lvis)
    return roots


# Of mmdet's FCOS; of MMEngine, which steps schedulers while gradients are accumulated.
@pytest.mark.filterwarnings('ignore:torch.meshgrid:UserWarning',
                            'ignore:Detected call of `scheduler.step:UserWarning')
@pytest.mark.slow
@pytest.mark.parametrize('file', DETECTION)
def test_it_trains_and_is_tested_when_it_is_shrunk(file: str, sets: dict[bool, Path], tmp_path: Path):
    lvis = file.endswith('_lvis.py')
    cfg = shrink(load(file), sets[lvis])
    cfg.work_dir = str(tmp_path)
    runner = Runner.quietly_from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.named_parameters()}
    runner.train()
    same = {name for name, value in runner.model.named_parameters() if torch.equal(value, before[name])}
    assert all(torch.isfinite(value).all() for value in runner.model.state_dict().values())
    same = {name for name in same if '.residual.' not in name}  # start behind a norm that is zero
    assert len(same) < len(before) / 8, sorted(same)
    scalars = runner.message_hub.log_scalars
    assert f'val/{"lvis/bbox_APr" if lvis else "coco/bbox_mAP"}' in scalars
    assert torch.isfinite(torch.tensor(scalars['train/loss'].data[0])).all()


# ---- the constants of the sources

SIZES = {  # detectron2 projects/ViTDet/configs/COCO
    'b': {'backbone.arch': 'base', 'backbone.drop_path_rate': 0.1, 'backbone.global_blocks': [2, 5, 8, 11],
          'neck.in_channels': 768},
    'l': {'backbone.arch': 'large', 'backbone.drop_path_rate': 0.4, 'backbone.global_blocks': [5, 11, 17, 23],
          'neck.in_channels': 1024},
    'h': {'backbone.arch': 'huge', 'backbone.drop_path_rate': 0.5, 'backbone.global_blocks': [7, 15, 23, 31],
          'neck.in_channels': 1280}}
DECAY = {'b': 0.7, 'l': 0.8, 'h': 0.9}


def vitdet(size: str, iterations: int, lr: float = 1e-4, **more: object) -> dict:
    """What all of them share, and what goes with the size."""
    return {f'model.{key}': value for key, value in SIZES[size].items()} | {
        'model.backbone.window_size': 14, 'model.backbone.relative_positions': True, 'model.backbone.image_size': 1024,
        'model.backbone.patch_size': 16, 'model.data_preprocessor.pad_size_divisor': 1024,
        'model.rpn_head.num_convs': 2, 'model.rpn_head.loss_bbox.type': 'L1Loss',
        'model.train_cfg.rpn.allowed_border': -1, 'model.train_cfg.rpn_proposal.max_per_img': 1000,
        'model.test_cfg.rpn.max_per_img': 1000, 'optim_wrapper.optimizer.lr': lr,
        'optim_wrapper.optimizer.weight_decay': 0.1, 'optim_wrapper.paramwise_cfg.layer_decay': DECAY[size],
        'optim_wrapper.clip_grad': None, 'auto_scale_lr.base_batch_size': 64, 'train_cfg.max_iters': iterations} | more


LSJ = {'train_dataloader.dataset.pipeline.2.type': 'RandomFlip',
       'train_dataloader.dataset.pipeline.3.ratio_range': (0.1, 2.0),
       'train_dataloader.dataset.pipeline.4.crop_size': (1024, 1024),
       'train_dataloader.dataset.pipeline.4.recompute_bbox': True,
       'val_dataloader.dataset.pipeline.1.scale': (1024, 1024)}
MASK = LSJ | {'model.type': 'MaskRCNN', 'model.train_cfg.rcnn.assigner.match_low_quality': False}
CASCADE = LSJ | {'model.type': 'CascadeRCNN'} | {
    f'model.roi_head.bbox_head.{i}.{key}': value for i, deviation in enumerate((10, 20, 30)) for key, value in {
        'type': 'Shared4Conv1FCBBoxHead', 'reg_class_agnostic': True,
        'norm_cfg': {'type': 'mae_backbone.LayerNorm2d', 'eps': 1e-6}, 'loss_bbox.type': 'L1Loss',
        'bbox_coder.target_stds.0': 1 / deviation, 'bbox_coder.target_stds.3': 2 / deviation}.items()} | {
    f'model.train_cfg.rcnn.{i}.assigner.{key}': iou for i, iou in enumerate((0.5, 0.6, 0.7))
    for key in ('pos_iou_thr', 'neg_iou_thr')}
LVIS = {'model.roi_head.mask_head.num_classes': 1203, 'model.test_cfg.rcnn.score_thr': 0.02,
        'model.test_cfg.rcnn.max_per_img': 300, 'train_dataloader.dataset.oversample_thr': 0.001,
        'train_dataloader.dataset.dataset.pipeline.2.type': 'RandomFlip',
        'train_dataloader.dataset.dataset.pipeline.4.recompute_bbox': True, 'train_cfg.max_iters': 156_250}
# Benchmarking Detection Transfer Learning with Vision Transformers; MIMDet configs/benchmarking
MAE_PAPER = {'model.backbone.window_size': 16, 'model.backbone.out_indices': [2, 5, 8, 11],
             'model.neck.1.norm_cfg.type': 'SyncBN', 'model.roi_head.bbox_head.norm_cfg.type': 'SyncBN',
             'optim_wrapper.optimizer.lr': 8e-5, 'optim_wrapper.optimizer.weight_decay': 0.1,
             'optim_wrapper.paramwise_cfg.layer_decay': None, 'param_scheduler.1.type': 'CosineAnnealingLR',
             'model.backbone.drop_path_rate': 0.1, 'param_scheduler.0.end': round(0.25 * 118_000 / 64)}
RECIPES = {
    'mask-rcnn_vitdet-l_100e_coco': vitdet('l', 184_375, **MASK),
    'mask-rcnn_vitdet-h_75e_coco': vitdet('h', 138_281, **MASK),
    'cascade-mask-rcnn_vitdet-b_100e_coco': vitdet('b', 184_375, **CASCADE),
    'cascade-mask-rcnn_vitdet-l_100e_coco': vitdet('l', 184_375, **CASCADE),
    'cascade-mask-rcnn_vitdet-h_75e_coco': vitdet('h', 138_281, **CASCADE),
    'mask-rcnn_vitdet-b_50e_coco': vitdet('b', 92_187, **MASK),
    'mask-rcnn_vitdet-b_25e_coco': vitdet('b', 46_093, **MASK),
    'mask-rcnn_vitdet-b_100e_lvis': vitdet('b', 156_250, 2e-4, **LVIS),
    'mask-rcnn_vitdet-l_100e_lvis': vitdet('l', 156_250, 2e-4, **LVIS),
    'mask-rcnn_vitdet-h_100e_lvis': vitdet('h', 156_250, 1e-4, **LVIS) | {'model.backbone.drop_path_rate': 0.4},
    'cascade-mask-rcnn_vitdet-b_100e_lvis': vitdet('b', 156_250, 2e-4, **LVIS),
    'cascade-mask-rcnn_vitdet-l_100e_lvis': vitdet('l', 156_250, 2e-4, **LVIS),
    'cascade-mask-rcnn_vitdet-h_100e_lvis': vitdet('h', 156_250, 1e-4, **LVIS) | {
        'model.backbone.drop_path_rate': 0.4},
    'mask-rcnn_vit-fpn-b_100e_coco': MAE_PAPER | {'train_cfg.max_iters': 184_375},
    'mask-rcnn_vit-fpn-b_50e_coco': MAE_PAPER | {'train_cfg.max_iters': 92_187},
    'mask-rcnn_vit-fpn-b_25e_coco': MAE_PAPER | {'train_cfg.max_iters': 46_093},
    'mask-rcnn_vitdet-b_25e_coco-640px': {
        'train_dataloader.batch_size': 4, 'optim_wrapper.accumulative_counts': 4, 'train_cfg.max_iters': 737_500,
        'model.backbone.checkpointing': True, 'model.data_preprocessor.pad_size_divisor': 640},
}


@pytest.mark.parametrize('name', RECIPES)
def test_the_constants_are_those_of_the_source(name: str):
    cfg = load(f'configs/detection/{name}.py')
    found = {key: look_up(cfg, key) for key in RECIPES[name]}
    assert found == {key: pytest.approx(value) if isinstance(value, float) else value
                     for key, value in RECIPES[name].items()}


@pytest.mark.parametrize(('name', 'iterations'), [
    ('mask-rcnn_vitdet-b_50e_coco', 92_187), ('mask-rcnn_vitdet-b_25e_coco', 46_093),
    ('mask-rcnn_vitdet-h_75e_coco', 138_281), ('mask-rcnn_vitdet-b_100e_lvis', 156_250)])
def test_the_lr_falls_at_the_same_shares_of_the_schedule(name: str, iterations: int):
    found = rates(f'configs/detection/{name}.py', iterations)
    peak = 2e-4 if 'lvis' in name else 1e-4
    assert found[0] == pytest.approx(peak / 1000)
    assert found[250] == pytest.approx(peak)
    falls = [i for i in range(300, iterations) if found[i] < 0.5 * found[i - 1]]
    assert [fall / iterations for fall in falls] == pytest.approx([8 / 9, 26 / 27], abs=2e-5)
    assert found[-1] == pytest.approx(peak / 100)


def test_the_learning_rate_of_a_small_gpu_is_the_sum_of_its_card():
    cfg = load('configs/detection/mask-rcnn_vitdet-b_25e_coco-640px.py')
    cfg.launcher = 'none'
    assert 'effective batch 16' in (line := scale_learning_rate(cfg))
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(2.5e-5), line
    assert cfg.train_cfg.max_iters % cfg.optim_wrapper.accumulative_counts == 0


@pytest.mark.parametrize('name', ['mask-rcnn_vitdet-h_75e_coco', 'cascade-mask-rcnn_vitdet-h_100e_lvis'])
def test_of_the_huge_one_everything_decays(name: str):
    settings = settings_of(f'configs/detection/{name}.py')
    assert {decay for _, decay in settings.values()} == {0.1}
    assert settings['backbone.pos_embed'][0] == pytest.approx(0.9 ** 33)
    assert settings['backbone.blocks.31.norm1.weight'][0] == pytest.approx(0.9)


@pytest.mark.parametrize('name', ['mask-rcnn_vitdet-l_100e_coco', 'cascade-mask-rcnn_vitdet-l_100e_coco',
                                  'mask-rcnn_vitdet-l-conv_100e_coco', 'mask-rcnn_vitdet-l_100e_lvis'])
def test_of_the_large_one_the_norms_of_the_vit_and_its_positions_do_not(name: str):
    settings = settings_of(f'configs/detection/{name}.py')
    free = {one for one, (_, decay) in settings.items() if decay == 0}
    norms = {f'backbone.blocks.{i}.norm{k}.{part}' for i in range(24) for k in (1, 2) for part in ('weight', 'bias')}
    assert free == norms | {'backbone.pos_embed'}
    assert settings['backbone.blocks.0.attn.qkv.weight'][0] == pytest.approx(0.8 ** 24)
    if 'conv' in name:
        assert settings['backbone.blocks.5.residual.norm3.weight'] == (1.0, 0.1)  # as in detectron2
