"""Mask R-CNN on a 1.2 M parameter ViT with a simple feature pyramid, for 900 iterations: instances of nuclei.

Run     mae-backbone train mask-rcnn_vit-micro_900i_nuclei --data-root nuclei --pretrained MAE.pth
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  45.6 box AP and 47.0 mask AP from the MAE of mae_vit-micro_nuclei.py, 44.1 and 45.8 from random weights (ours,
        one seed, --amp)

For your own images, replace what was measured on nuclei: see mask-rcnn_vit-micro_nuclei.py.
"""
_base_ = ['./mask-rcnn_vit-micro_nuclei.py']

max_iters = 900
warmup_iters = 50

optim_wrapper = dict(optimizer=dict(lr=1e-3))  # the best of three from a MAE, docs/benchmarks.md
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type='CosineAnnealingLR', begin=warmup_iters, end=max_iters, T_max=max_iters - warmup_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=300)
default_hooks = dict(checkpoint=dict(interval=300))
