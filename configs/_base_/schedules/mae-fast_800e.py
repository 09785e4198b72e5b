"""MAE pretraining for 800 epochs with small images first: less arithmetic per image."""
_base_ = ['./mae_800e.py']

default_hooks = dict(
    # The sizes of DailyMAE (Wu et al., 2024; erow/FastSSL, scheme 1), a third of the training each.
    image_sizes=dict(type='mae_backbone.ImageSizeHook', stages=[(0, 160), (1 / 3, 192), (2 / 3, 224)]))
