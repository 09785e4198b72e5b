"""MAE pretraining of a 1.3 M parameter ViT on microscopy images of nuclei, annotations unused.

Run     python tools/pretrain.py configs/demo/mae_vit-micro_nuclei.py --data-root nuclei/train
Data    nuclei/train/*.png (430 images of 256x256 to 1388x1040), or any folder of images
Expect  the table in the README
"""
_base_ = ['../_base_/demo_mae.py']

image_size = 128
max_iters = 2000

model = dict(
    encoder=dict(image_size=image_size, patch_size=8),
    norm_pix=False,  # most patches are dark: normalised, their noise would weigh as much as the nuclei
    data_preprocessor=dict(mean=[37.0] * 3, std=[63.0] * 3))
# Crops keep about the magnification at which the detector sees the nuclei.
train_dataloader = dict(
    batch_size=32, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_root='data/nuclei/train', image_size=image_size, scale=(0.1, 0.6), cache=True))
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=max_iters, T_max=max_iters - 100, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=500, by_epoch=False)]
