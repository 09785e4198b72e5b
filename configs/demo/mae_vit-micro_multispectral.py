"""MAE pretraining of a 1.3 M parameter ViT on multispectral images: 12 channels of 16 bits, such as Sentinel-2.

Run     mae-backbone pretrain mae_vit-micro_multispectral --data-root sentinel2
Data    sentinel2/**/*.npy, each of shape (H, W, 12) and uint16. For GeoTIFF set reader.type='mae_backbone.TiffReader'.
        For other channels change in_channels, reader.channels, mean and std below.
Expect  no published figure. The config shows what images with any number of channels need.
"""
_base_ = ['../_base_/models/mae_vit-micro.py', '../_base_/datasets/unlabeled.py', '../_base_/schedules/mae_micro.py']

image_size = 96
channels = 12
max_epochs = 50

model = dict(
    encoder=dict(image_size=image_size, patch_size=8, in_channels=channels), decoder_width=128,
    # Placeholders of no particular set: replace them by the mean and std of your own images, per channel.
    data_preprocessor=dict(mean=[1500.0] * channels, std=[800.0] * channels))
train_dataloader = dict(
    batch_size=64, num_workers=2,
    dataset=dict(data_root='data/sentinel2', image_size=image_size,
                 reader=dict(type='mae_backbone.ArrayReader', channels=channels, dtype='uint16')))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, begin=0, end=5, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
custom_hooks = [dict(type='mae_backbone.ReconstructionHook', interval=10, channels=[3, 2, 1])]  # red, green, blue
