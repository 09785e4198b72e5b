"""ViT-L/16 from random weights, ImageNet-1K, 200 epochs: what MAE is compared with.

Run     python tools/train.py configs/classification/vit-l_scratch_200e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Data    data/imagenet/{train,val}/CLASS/*.JPEG; of your own in the same layout: --data-root DIR
Costs   not published
Expect  82.6 top-1 (MAE paper, table 3 and appendix A.2). Ours: not measured yet.
"""
_base_ = ['./vit-b_scratch_300e_in1k.py']

max_epochs = 200
warmup_epochs = 20

model = dict(backbone=dict(arch='large', drop_path_rate=0.2))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
