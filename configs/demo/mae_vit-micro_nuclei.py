"""MAE pretraining of a 1.2 M parameter ViT on microscopy images of nuclei, annotations unused.

Run     mae-backbone pretrain mae_vit-micro_nuclei --data-root nuclei/train
Data    nuclei/train/*.png (430 images of 256x256 to 1388x1040), or any folder of images
Expect  docs/benchmarks.md

For your own images, replace what was measured on nuclei: mean and std (`mae-backbone measure` prints them), the scale
of the crops, and norm_pix, which is off because most patches are background.
"""
_base_ = [
    '../_base_/models/mae_vit-micro.py',
    '../_base_/datasets/unlabeled.py',
    '../_base_/schedules/mae_micro_3500i.py',
]

image_size = 64

model = dict(
    encoder=dict(image_size=image_size, patch_size=8), decoder_width=128, decoder_depth=1,
    # Most patches are dark background. Normalized per patch, their noise would weigh as much as the nuclei.
    norm_pix=False,
    data_preprocessor=dict(mean=[37.0] * 3, std=[63.0] * 3))
# Crops keep roughly the magnification at which the detector sees the nuclei. They are small on purpose: at 128 pixels,
# the same cost bought too few iterations, and all tokens of an image came out alike.
train_dataloader = dict(
    batch_size=64,
    dataset=dict(data_root='data/nuclei/train', image_size=image_size, scale=(0.04, 0.17), cache=True))
