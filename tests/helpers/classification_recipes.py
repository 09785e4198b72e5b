"""The constants of the classification configs beyond fine-tuning and linear probing, each with its source."""


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


FOLDER = 'configs/classification'
CLASSIFICATION = {
    f'{FOLDER}/vit-s_100e_in1k.py': {'model.backbone.arch': 'small', 'model.backbone.drop_path_rate': 0.1},
    f'{FOLDER}/vit-ti_100e_in1k.py': {'model.backbone.arch': 'tiny', 'model.backbone.drop_path_rate': 0.0},
    # mmpretrain
    f'{FOLDER}/vit-h_50e_in1k-448px.py': {
        'model.backbone.arch': 'huge', 'model.backbone.image_size': 448, 'model.backbone.patch_size': 14,
        'model.backbone.drop_path_rate': 0.3, 'train_dataloader.dataset.image_size': 448,
        'val_dataloader.dataset.image_size': 448, 'val_dataloader.dataset.augment.crop_pct': 448 / 512,
        'test_dataloader.dataset.image_size': 448, 'test_dataloader.dataset.augment.crop_pct': 448 / 512,
        'optim_wrapper.optimizer.lr': 4e-3, 'train_cfg.max_epochs': 50},
    # Chen et al. 2022 have the probe, we the constants
    f'{FOLDER}/vit-b_attentive_90e_in1k.py': {
        'model.pool': 'attention', 'model.probe': True, 'train_dataloader.dataset.augment': None,
        'optim_wrapper.optimizer.type': 'AdamW', 'optim_wrapper.optimizer.lr': 1e-3, 'train_cfg.max_epochs': 90},
    # MAE paper, figure 9 and table 9
    f'{FOLDER}/vit-l_partial_50e_in1k.py': {
        'model.tuned_blocks': 1, 'model.pool': 'mean', 'model.backbone.arch': 'large',
        'optim_wrapper.paramwise_cfg.layer_decay': 0.75, 'train_cfg.max_epochs': 50},
    f'{FOLDER}/vit-b_scratch_300e_in1k.py': from_scratch(300, 0.1, arch='base', patch_size=16),
    f'{FOLDER}/vit-l_scratch_200e_in1k.py': from_scratch(200, 0.2, arch='large', patch_size=16),
    f'{FOLDER}/vit-h_scratch_200e_in1k.py': from_scratch(200, 0.2, arch='huge', patch_size=14),
}
