"""MAE pretraining that continues from pretrained weights: 100 epochs with a lower learning rate."""
_base_ = ['./mae_800e.py']

# 100 epochs: continued masked pretraining on 600,000 aerial images (Mendieta et al., ICCV 2023, arXiv:2302.04476,
# table 1), where 100 epochs gave most of the gain of 800. 10 of them are warm-up, as in SimMIM's schedules, which that
# work uses.
warmup_epochs = 10
train_cfg = dict(max_epochs=100)

# A third of the 1.5e-4 per 256 images of MAE. This is our choice: no comparison of learning rates for continued MAE
# pretraining is published that we know of. --lr sets another one.
optim_wrapper = dict(optimizer=dict(lr=0.5e-4 * 4096 / 256))

param_scheduler = [
    dict(type='mae_backbone.LinearWarmup', start_factor=1e-9, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, convert_to_iter_based=True),
]
