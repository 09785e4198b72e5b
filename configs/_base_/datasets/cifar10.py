"""CIFAR-10 as class folders. Any other class folders work too: the classes are the folders of train/."""
data_root = 'data/cifar10'

train_dataloader = dict(
    batch_size=128, num_workers=1, persistent_workers=True, drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=data_root, split='train', train=True, image_size=32))
val_dataloader = dict(
    batch_size=256, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=data_root, split='val', train=False, image_size=32))
test_dataloader = val_dataloader
val_evaluator = dict(type='mae_backbone.TopKAccuracy', topk=(1,))
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
custom_hooks = [dict(type='mae_backbone.ConfusionHook')]
