"""MAE pretraining of a 1.3 M parameter ViT on microscopy images of nuclei, annotations unused.

Run     python tools/pretrain.py configs/demo/mae_vit-micro_nuclei.py --data-root nuclei/train
Data    nuclei/train/*.png (430 images of 256x256 to 1388x1040), or any folder of images
Expect  the table in the README
"""
_base_ = ['../_base_/demo_mae.py']

image_size = 64
max_iters = 3500

model = dict(
    encoder=dict(image_size=image_size, patch_size=8), decoder_width=128, decoder_depth=1,
    norm_pix=False,  # most patches are dark: normalized, their noise would weigh as much as the nuclei
    data_preprocessor=dict(mean=[37.0] * 3, std=[63.0] * 3))
# Crops keep about the magnification at which the detector sees the nuclei. They are small on purpose: of 128 pixels,
# the same cost bought too few iterations, and all tokens of an image came out alike.
train_dataloader = dict(
    batch_size=64,
    dataset=dict(data_root='data/nuclei/train', image_size=image_size, scale=(0.04, 0.17), cache=True))
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=100, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=100, end=max_iters, T_max=max_iters - 100, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=500), health=dict(by_epoch=False, interval=500))
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=500, by_epoch=False)]
