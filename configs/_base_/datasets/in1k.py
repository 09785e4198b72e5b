"""ImageNet-1K with labels: random crops and flips in training; short side 256 bicubic, center crop 224 in testing."""
data_root = 'data/imagenet'

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
