"""MAE pretraining of a 0.5 M parameter ViT on generated scenes, labels unused: a step of the quickstart.

Run     mae-backbone pretrain quickstart_mae --data-root work_dirs/quickstart/scenes/unlabeled
Data    images of `mae-backbone quickstart`, or any folder of images
Expect  docs/benchmarks.md
"""
_base_ = ['../_base_/models/mae_vit-micro.py', '../_base_/datasets/unlabeled.py', '../_base_/schedules/mae_micro.py']

image_size = 64
max_iters = 1600
warmup = 60

model = dict(
    encoder=dict(arch=dict(width=96, depth=4, heads=3), image_size=image_size, patch_size=8),
    decoder_width=128, decoder_depth=1,
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[70.0, 70.0, 70.0]))
# Crops keep about the magnification of the scenes, so that fine-tuning sees the same textures.
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root='work_dirs/quickstart/scenes/unlabeled', image_size=image_size, scale=(0.5, 1.0), cache=True))
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=warmup, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup, end=max_iters, T_max=max_iters - warmup, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(by_epoch=False, interval=200),
                     health=dict(by_epoch=False, interval=200))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=100, by_epoch=False)]
