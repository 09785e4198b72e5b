"""MAE pretraining of a 1.4 M parameter ViT on multispectral images: 12 channels of 16 bits, such as Sentinel-2's.

Run     python tools/pretrain.py configs/demo/mae_vit-micro_multispectral.py --data-root sentinel2
Data    sentinel2/**/*.npy, each of shape (H, W, 12) and uint16; for GeoTIFF set reader.type='mae_backbone.TiffReader',
        and for other channels in_channels, reader.channels, mean and std below
Expect  nothing published; the config shows what any number of channels needs
"""
_base_ = ['../_base_/demo_mae.py']

image_size = 96
channels = 12
max_epochs = 50

model = dict(
    encoder=dict(image_size=image_size, patch_size=8, in_channels=channels), decoder_width=128,
    # Take those of your own images, channel by channel: these are of no set in particular.
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
