"""Fine-tuning of a 1.2 M parameter ViT on CIFAR-10 for 600 iterations, for any number of labels.

Run     mae-backbone train vit-micro_finetune-iters_cifar10 --data-root cifar10 --labels 0.01 --pretrained MAE.pth
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  docs/benchmarks.md
"""
_base_ = ['./vit-micro_finetune_cifar10.py']

max_iters = 600
warmup_iters = 60

train_dataloader = dict(sampler=dict(type='InfiniteSampler', shuffle=True))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=200))
log_processor = dict(by_epoch=False)
