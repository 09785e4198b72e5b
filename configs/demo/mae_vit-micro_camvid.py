"""MAE pretraining of a 1.3 M parameter ViT on street scenes, labels unused.

Run     python tools/pretrain.py configs/demo/mae_vit-micro_camvid.py --data-root camvid/images/training
Data    camvid/images/training/*.jpg (367 frames of 480x360), or any folder of images
Expect  the table in the README
"""
_base_ = ['../_base_/demo_mae.py']

image_size = 160
max_iters = 1200

model = dict(
    encoder=dict(image_size=image_size, patch_size=8),
    data_preprocessor=dict(mean=[105.0, 108.0, 110.0], std=[75.0, 77.0, 78.0]))
# Crops keep about the magnification at which the segmenter sees things.
train_dataloader = dict(
    batch_size=32, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_root='data/camvid/images/training', image_size=image_size, scale=(0.1, 0.6), cache=True))
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=50, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=50, end=max_iters, T_max=max_iters - 50, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=500, by_epoch=False)]
