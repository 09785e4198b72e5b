"""The training images of ImageNet-1K without labels: crops of 20 to 100 % of the area and flips, no color jitter."""
data_root = 'data/imagenet/train'

train_dataloader = dict(
    batch_size=64, num_workers='auto', persistent_workers=True,
    sampler=dict(type='mae_backbone.PretrainSampler'),
    batch_sampler=dict(type='mae_backbone.PretrainBatchSampler', drop_last=True),
    collate_fn=dict(type='mae_backbone.as_is'),
    dataset=dict(type='mae_backbone.UnlabeledImages', data_root=data_root, image_size=224, scale=(0.2, 1.0), flip=0.5,
                 interpolation='bicubic'))
