"""Linear probe of a ViT-L/16 that MAE pretrained, ImageNet-1K, 50 epochs.

Run     python tools/train.py configs/classification/vit-l_linear_50e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; of your own in the same layout: --data-root DIR
Costs   not published; an epoch is about 1,281,167 forward passes
Expect  76.0 top-1 (public MAE code, FINETUNE.md), 75.8 (MAE paper). Ours: not measured yet.
"""
_base_ = ['./vit-b_linear_90e_in1k.py']

max_epochs = 50  # suffices for L and H (public MAE code, FINETUNE.md)
warmup_epochs = 10

model = dict(backbone=dict(
    arch='large', init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
