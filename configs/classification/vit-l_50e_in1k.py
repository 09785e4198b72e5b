"""Fine-tuning of ViT-L/16 from MAE weights, ImageNet-1K, 50 epochs.

Run     python tools/train.py configs/classification/vit-l_50e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; of your own in the same layout: --data-root DIR
Costs   8 h 52 min on 32 V100 (public MAE code, FINETUNE.md)
Expect  85.9 top-1, 85.87 +- .07 over four seeds (public MAE code, FINETUNE.md). Ours: not measured yet.
"""
_base_ = ['./vit-b_100e_in1k.py']

max_epochs = 50
warmup_epochs = 5
lr = 1e-3 * 1024 / 256

model = dict(backbone=dict(
    arch='large', drop_path_rate=0.2, init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')))
optim_wrapper = dict(optimizer=dict(lr=lr), paramwise_cfg=dict(layer_decay=0.75))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         eta_min_ratio=1e-6 / lr, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
