"""MAE pretraining of a 1.2 M parameter ViT on street scenes, labels unused.

Run     mae-backbone pretrain mae_vit-micro_camvid --data-root camvid/images/training
Data    camvid/images/training/*.jpg (367 frames of 480x360), or any folder of images
Expect  docs/benchmarks.md

For your own images, replace what was measured on CamVid: mean and std (`mae-backbone measure` prints them) and the
scale of the crops.
"""
_base_ = [
    '../_base_/models/mae_vit-micro.py',
    '../_base_/datasets/unlabeled.py',
    '../_base_/schedules/mae_micro_3500i.py',
]

image_size = 64

model = dict(
    encoder=dict(image_size=image_size, patch_size=8), decoder_width=128, decoder_depth=1,
    data_preprocessor=dict(mean=[105.0, 108.0, 110.0], std=[75.0, 77.0, 78.0]))
# Crops keep roughly the magnification at which the segmenter sees objects, 0.6 to 1.2. They are small on purpose: with
# the 400 patches of 160 pixels, the same cost was 1,200 iterations, too few for tokens to tell one place from another.
train_dataloader = dict(
    batch_size=64,
    dataset=dict(data_root='data/camvid/images/training', image_size=image_size, scale=(0.016, 0.066), cache=True))
