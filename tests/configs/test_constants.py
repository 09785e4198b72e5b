"""Constants of pretraining and classification, and of one detector and one segmenter: those of their sources."""
import pytest
from helpers.config_files import (
    CONFIGS,
    DETECTION,
    FINETUNE,
    KNN,
    LINEAR,
    SEGMENTATION,
    assert_constants,
)


def pretraining(epochs: int, **encoder: object) -> dict:
    """MAE paper, table 8; facebookresearch/mae PRETRAIN.md, main_pretrain.py, models_mae.py, util/lr_sched.py."""
    return {f'model.encoder.{key}': value for key, value in encoder.items()} | {
        'model.type': 'mae_backbone.MAEPretrainer', 'model.masking.type': 'mae_backbone.RandomMasking',
        'model.encoder.image_size': 224, 'model.mask_ratio': 0.75, 'model.norm_pix': True, 'model.decoder_width': 512,
        'model.decoder_depth': 8, 'model.decoder_heads': 16, 'train_dataloader.dataset.scale': (0.2, 1.0),
        'train_dataloader.dataset.interpolation': 'bicubic', 'train_dataloader.dataset.flip': 0.5,
        'train_dataloader.batch_sampler.type': 'mae_backbone.PretrainBatchSampler',
        'train_dataloader.batch_sampler.drop_last': True, 'train_dataloader.batch_sampler.repeats': None,
        'optim_wrapper.type': 'mae_backbone.GuardedOptimWrapper',
        'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': 2.4e-3,
        'optim_wrapper.optimizer.betas': (0.9, 0.95), 'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.clip_grad': None, 'auto_scale_lr.base_batch_size': 4096, 'auto_scale_lr.enable': True,
        'randomness.diff_rank_seed': True, 'train_cfg.type': 'mae_backbone.PretrainLoop',
        'train_cfg.max_epochs': epochs}


def fine_tuning(epochs: int, lr: float, layer_decay: float, **backbone: object) -> dict:
    """facebookresearch/mae FINETUNE.md, main_finetune.py, util/datasets.py."""
    return {f'model.backbone.{key}': value for key, value in backbone.items()} | {
        'model.pool': 'mean', 'model.num_classes': 1000, 'model.label_smoothing': 0.1, 'model.random_erasing': 0.25,
        'model.mixup.mixup_alpha': 0.8, 'model.mixup.cutmix_alpha': 1.0, 'model.mixup.switch_prob': 0.5,
        'train_dataloader.dataset.augment.auto_augment': 'rand-m9-mstd0.5-inc1', 'val_dataloader.dataset.augment': None,
        'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': lr,
        'optim_wrapper.optimizer.betas': (0.9, 0.999), 'optim_wrapper.optimizer.weight_decay': 0.05,
        'optim_wrapper.paramwise_cfg.layer_decay': layer_decay, 'optim_wrapper.clip_grad': None,
        'auto_scale_lr.base_batch_size': 1024, 'auto_scale_lr.enable': True, 'train_cfg.max_epochs': epochs}


def probing(epochs: int, **backbone: object) -> dict:
    """facebookresearch/mae FINETUNE.md, main_linprobe.py; MAE paper, table 10."""
    return {f'model.backbone.{key}': value for key, value in backbone.items()} | {
        'model.pool': 'class', 'model.probe': True, 'model.mixup': None, 'model.random_erasing': None,
        'train_dataloader.dataset.augment': None, 'optim_wrapper.optimizer.lr': 6.4,
        'auto_scale_lr.base_batch_size': 16384, 'auto_scale_lr.enable': True, 'train_cfg.max_epochs': epochs}


def from_scratch(epochs: int, drop_path: float, **backbone: object) -> dict:
    """MAE paper, table 11."""
    return {f'model.backbone.{key}': value for key, value in backbone.items()} | {
        'model.backbone.init_cfg': None, 'model.backbone.drop_path_rate': drop_path, 'model.label_smoothing': 0.1,
        'model.random_erasing': 0.0, 'model.mixup.mixup_alpha': 0.8, 'model.mixup.cutmix_alpha': 1.0,
        'optim_wrapper.optimizer.lr': 1.6e-3,
        'train_dataloader.dataset.augment.auto_augment': 'rand-m9-mstd0.5-inc1',
        'optim_wrapper.optimizer.betas': (0.9, 0.95), 'optim_wrapper.optimizer.weight_decay': 0.3,
        'optim_wrapper.paramwise_cfg.layer_decay': 1.0, 'auto_scale_lr.base_batch_size': 4096,
        'param_scheduler.0.end': 20, 'param_scheduler.1.end': epochs, 'param_scheduler.1.T_max': epochs - 20,
        'custom_hooks.1.type': 'EMAHook', 'custom_hooks.1.momentum': 1e-4, 'train_cfg.max_epochs': epochs}


B, L, H = {'arch': 'base', 'patch_size': 16}, {'arch': 'large'}, {'arch': 'huge', 'patch_size': 14}
RECIPES = {
    **{f'configs/pretrain/mae_vit-{size}_{epochs}e_in1k.py': pretraining(epochs, **encoder)
       for size, encoder in {'s': {'arch': 'small', 'patch_size': 16}, 'b': B, 'l': {'patch_size': 16, **L},
                             'h': H}.items() for epochs in (300, 400, 800, 1600)},
    # erow/FastSSL scheme 1; VideoMAE V2; MAE paper, tables 1a and 1b
    **{f'configs/pretrain/mae_vit-{size}_fast_800e_in1k.py': pretraining(800, **encoder) | {
        'model.decoder_depth': 4, 'model.decoder_width': width, 'model.decoder_heads': width // 32,
        'model.predict_ratio': 0.5, 'default_hooks.image_sizes.stages': [(0, 160), (1 / 3, 192), (2 / 3, 224)]}
       for size, encoder, width in (('b', B, 384), ('l', {'patch_size': 16, **L}, 512))},
    # Our own learning rate; UCSC-VLAA/DMAE pretrain.sh; wangsr126/MAE-Lite mae_lite_distill_exp.py and models_mae.py
    **{f'configs/pretrain/mae_vit-{size}_continue.py': pretraining(100, arch=arch) | {
        'optim_wrapper.optimizer.lr': 8e-4, 'param_scheduler.0.end': 10, 'param_scheduler.1.begin': 10}
       for size, arch in {'s': 'small', 'b': 'base', 'l': 'large'}.items()},
    'configs/pretrain/mae_vit-b_dmae_100e_in1k.py': pretraining(100, **B) | {
        'model.teacher.type': 'mae_backbone.FeatureDistillation', 'model.teacher.encoder.arch': 'large'},
    'configs/pretrain/mae_vit-ti_mae-lite_400e_in1k.py': pretraining(400) | {
        'model.encoder.arch': dict(width=192, depth=12, heads=12), 'model.decoder_width': 96, 'model.decoder_depth': 1,
        'model.decoder_heads': 3, 'train_dataloader.dataset.scale': (0.08, 1.0),
        'model.teacher.type': 'mae_backbone.AttentionDistillation', 'model.teacher.encoder.arch': 'base'},
    FINETUNE: fine_tuning(100, 2e-3, 0.65, drop_path_rate=0.1, **B),
    'configs/classification/vit-l_50e_in1k.py': fine_tuning(50, 4e-3, 0.75, drop_path_rate=0.2, patch_size=16, **L),
    'configs/classification/vit-h_50e_in1k.py': fine_tuning(50, 4e-3, 0.75, drop_path_rate=0.3, **H),
    LINEAR: probing(90, **B),
    'configs/classification/vit-l_linear_50e_in1k.py': probing(50, patch_size=16, **L),
    'configs/classification/vit-h_linear_50e_in1k.py': probing(50, **H),
    'configs/classification/vit-s_100e_in1k.py': {'model.backbone.arch': 'small', 'model.backbone.drop_path_rate': 0.1},
    'configs/classification/vit-ti_100e_in1k.py': {'model.backbone.arch': 'tiny', 'model.backbone.drop_path_rate': 0.0},
    # mmpretrain
    'configs/classification/vit-h_50e_in1k-448px.py': {
        'model.backbone.arch': 'huge', 'model.backbone.image_size': 448, 'model.backbone.patch_size': 14,
        'model.backbone.drop_path_rate': 0.3, 'train_dataloader.dataset.image_size': 448,
        'val_dataloader.dataset.image_size': 448, 'val_dataloader.dataset.augment.crop_pct': 448 / 512,
        'test_dataloader.dataset.image_size': 448, 'test_dataloader.dataset.augment.crop_pct': 448 / 512,
        'optim_wrapper.optimizer.lr': 4e-3, 'train_cfg.max_epochs': 50},
    # The probe: Chen et al., 2022. The constants: ours.
    'configs/classification/vit-b_attentive_90e_in1k.py': {
        'model.pool': 'attention', 'model.probe': True, 'train_dataloader.dataset.augment': None,
        'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': 1e-3, 'train_cfg.max_epochs': 90},
    # MAE paper, figure 9 and table 9
    'configs/classification/vit-l_partial_50e_in1k.py': {
        'model.tuned_blocks': 1, 'model.pool': 'mean', 'model.backbone.arch': 'large',
        'optim_wrapper.paramwise_cfg.layer_decay': 0.75, 'train_cfg.max_epochs': 50},
    'configs/classification/vit-b_scratch_300e_in1k.py': from_scratch(300, 0.1, arch='base', patch_size=16),
    'configs/classification/vit-l_scratch_200e_in1k.py': from_scratch(200, 0.2, arch='large', patch_size=16),
    'configs/classification/vit-h_scratch_200e_in1k.py': from_scratch(200, 0.2, arch='huge', patch_size=14),
    # DINO (Caron et al., ICCV 2021), section 4.1
    KNN: {'test_cfg.k': (10, 20, 100, 200), 'test_cfg.temperature': 0.07, 'test_cfg.bank.dataset.train': False,
          'test_cfg.bank.dataset.split': 'train', 'test_dataloader.dataset.split': 'val', **{
              f'model.backbone.{key}': value for key, value in B.items()}},
    # facebookresearch/dinov2: a class token, patches of 14 pixels
    'configs/classification/timm-dinov2-b_knn_in1k.py': {
        'model.pool': 'class', 'model.backbone.name': 'vit_base_patch14_reg4_dinov2.lvd142m', 'model.num_classes': 0,
        'test_cfg.k': (10, 20, 100, 200)},
    'configs/classification/timm-dinov2-b_linear_90e_in1k.py': {
        'model.pool': 'class', 'model.backbone.name': 'vit_base_patch14_reg4_dinov2.lvd142m', 'model.probe': True,
        'train_cfg.max_epochs': 90, 'train_dataloader.batch_size': 512},
    # detectron2 projects/ViTDet and configs/common/models/mask_rcnn_{fpn,vitdet}.py
    DETECTION: {
        'model.backbone.arch': 'base', 'model.backbone.image_size': 1024, 'model.backbone.pretrain_image_size': 224,
        'model.backbone.patch_size': 16, 'model.backbone.window_size': 14,
        'model.backbone.global_blocks': [2, 5, 8, 11],
        'model.backbone.relative_positions': True, 'model.backbone.drop_path_rate': 0.1,
        'model.data_preprocessor.pad_size_divisor': 1024, 'model.neck.out_channels': 256, 'model.rpn_head.num_convs': 2,
        'model.rpn_head.anchor_generator.strides': [4, 8, 16, 32, 64], 'model.train_cfg.rpn.sampler.num': 256,
        'model.train_cfg.rpn_proposal.nms_pre': 2000, 'model.test_cfg.rpn.nms_pre': 1000,
        'model.train_cfg.rpn_proposal.max_per_img': 1000, 'model.test_cfg.rpn.max_per_img': 1000,
        'model.roi_head.bbox_head.type': 'Shared4Conv1FCBBoxHead', 'model.roi_head.bbox_head.fc_out_channels': 1024,
        'model.roi_head.bbox_head.norm_cfg': {'type': 'mae_backbone.LayerNorm2d', 'eps': 1e-6},
        'model.roi_head.mask_head.norm_cfg': {'type': 'mae_backbone.LayerNorm2d', 'eps': 1e-6},
        'model.roi_head.mask_head.num_convs': 4, 'model.test_cfg.rcnn.score_thr': 0.05,
        'train_dataloader.dataset.pipeline.2.type': 'RandomFlip',  # before resizing
        'train_dataloader.dataset.pipeline.3.ratio_range': (0.1, 2.0),
        'train_dataloader.dataset.pipeline.4.recompute_bbox': True,
        'val_dataloader.dataset.pipeline.1.scale': (1024, 1024), 'optim_wrapper.optimizer.type': 'AdamW',
        'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.betas': (0.9, 0.999),
        'optim_wrapper.optimizer.weight_decay': 0.1, 'optim_wrapper.clip_grad': None,
        'auto_scale_lr.base_batch_size': 64, 'train_cfg.max_iters': 184_375, 'param_scheduler.1.gamma': 0.1},
    # implus/mae_segmentation configs/mae and mmseg configs/mae
    SEGMENTATION: {
        'model.backbone.arch': 'base', 'model.backbone.image_size': 512, 'model.backbone.drop_path_rate': 0.1,
        'model.backbone.out_indices': [3, 5, 7, 11], 'model.backbone.relative_bias': 'block',
        'model.backbone.class_token': True,
        'model.neck.rescales': [4, 2, 1, 0.5], 'model.decode_head.channels': 768,
        'model.decode_head.pool_scales': (1, 2, 3, 6), 'model.auxiliary_head.in_index': 2,
        'model.auxiliary_head.channels': 256, 'model.auxiliary_head.loss_decode.loss_weight': 0.4,
        'model.test_cfg': {'mode': 'slide', 'crop_size': (512, 512), 'stride': (341, 341)},
        'train_dataloader.dataset.pipeline.2.scale': (2048, 512),
        'train_dataloader.dataset.pipeline.2.ratio_range': (0.5, 2.0),
        'train_dataloader.dataset.pipeline.3.crop_size': (512, 512),
        'train_dataloader.dataset.pipeline.3.cat_max_ratio': 0.75, 'optim_wrapper.optimizer.type': 'AdamW',
        'optim_wrapper.optimizer.lr': 1e-4, 'optim_wrapper.optimizer.betas': (0.9, 0.999),
        'optim_wrapper.optimizer.weight_decay': 0.05, 'optim_wrapper.paramwise_cfg.layer_decay': 0.65,
        'auto_scale_lr.base_batch_size': 16, 'train_cfg.max_iters': 160_000, 'param_scheduler.1.power': 1.0},
}


def test_every_recipe_is_compared():
    # Demos are small runs of our own, and recipes for own images are for plans, see tests/planning.
    # test_detection.py and test_segmentation.py compare the other variants.
    assert {*CONFIGS} - RECIPES.keys() == {
        file for file in CONFIGS
        if '/demo/' in file or '/own/' in file or ('/detection/' in file and file != DETECTION)
        or ('/segmentation/' in file and file != SEGMENTATION)}


@pytest.mark.parametrize('file', RECIPES)
def test_constants_equal_the_source(file: str):
    assert_constants(file, RECIPES[file])
