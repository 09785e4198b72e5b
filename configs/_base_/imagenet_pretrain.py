"""The training images of ImageNet-1K, labels unused: crops of 20 to 100 % of the area and flips, nothing else."""
data_root = 'data/imagenet/train'

# Images arrive as uint8 RGB: mean and standard deviation of ImageNet on that scale, .485 * 255 and so on.
model = dict(data_preprocessor=dict(
    type='mae_backbone.PixelPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
train_dataloader = dict(
    batch_size=64, num_workers='auto', persistent_workers=True,
    sampler=dict(type='mae_backbone.PretrainSampler'),
    batch_sampler=dict(type='mae_backbone.PretrainBatchSampler', drop_last=True),
    collate_fn=dict(type='mae_backbone.as_is'),
    dataset=dict(type='mae_backbone.UnlabeledImages', data_root=data_root, image_size=224, scale=(0.2, 1.0), flip=0.5,
                 interpolation='bicubic'))
