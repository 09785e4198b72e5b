"""MAE pretraining of a 1.3 M parameter ViT on street scenes, labels unused.

Run     python tools/pretrain.py configs/demo/mae_vit-micro_camvid.py --data-root camvid/images/training
Data    camvid/images/training/*.jpg (367 frames of 480x360), or any folder of images
Expect  the table in the README
"""
_base_ = ['../_base_/demo_mae.py']

image_size = 64
max_iters = 3500

model = dict(
    encoder=dict(image_size=image_size, patch_size=8), decoder_width=128, decoder_depth=1,
    data_preprocessor=dict(mean=[105.0, 108.0, 110.0], std=[75.0, 77.0, 78.0]))
# Crops keep about the magnification at which the segmenter sees things, 0.6 to 1.2. They are small on purpose: with the
# 400 patches of 160 pixels, 1,200 iterations of the same cost ended before tokens told one place from another.
train_dataloader = dict(
    batch_size=64,
    dataset=dict(data_root='data/camvid/images/training', image_size=image_size, scale=(0.016, 0.066), cache=True))
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=max_iters, T_max=max_iters - 100, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500), health=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=500, by_epoch=False)]
