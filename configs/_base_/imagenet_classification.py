"""ImageNet-1K with labels: random crops and flips to train on; 256 pixels bicubic, then the center 224, to test on."""
data_root = 'data/imagenet'

# Images arrive as uint8 RGB: mean and standard deviation of ImageNet on that scale, .485 * 255 and so on.
model = dict(data_preprocessor=dict(
    type='ImgDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
train_dataloader = dict(
    batch_size=128, num_workers=8, persistent_workers=True, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=data_root, split='train', train=True, image_size=224))
val_dataloader = dict(
    batch_size=128, num_workers=8, persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=data_root, split='val', train=False, image_size=224))
test_dataloader = val_dataloader
val_evaluator = [dict(type='mae_backbone.TopKAccuracy', topk=(1, 5)), dict(type='mae_backbone.CrossEntropy')]
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
custom_hooks = [dict(type='mae_backbone.ConfusionHook')]
