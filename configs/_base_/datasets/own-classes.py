"""Class folders of your own at 224 pixels: {train,val}/CLASS/*.jpg. The sampler never ends: iterations are counted."""
data_root = 'data/own'

train_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=data_root, split='train', train=True, image_size=224))
val_dataloader = dict(
    batch_size=64, num_workers=4, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mae_backbone.ClassFolder', data_root=data_root, split='val', train=False, image_size=224))
test_dataloader = val_dataloader
val_evaluator = dict(type='mae_backbone.TopKAccuracy', topk=(1,))
test_evaluator = val_evaluator
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
custom_hooks = [dict(type='mae_backbone.ConfusionHook')]
