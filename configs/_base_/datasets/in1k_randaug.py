"""ImageNet-1K with labels and RandAugment in training (public MAE code, FINETUNE.md)."""
_base_ = ['./in1k.py']

train_dataloader = dict(dataset=dict(augment=dict(auto_augment='rand-m9-mstd0.5-inc1')))
