"""Fine-tuning of ViT-H/14 from MAE weights, ImageNet-1K, 50 epochs.

Run     mae-backbone train vit-h_50e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   13 h 9 min on 64 V100 (public MAE code, FINETUNE.md)
Expect  86.9 top-1 (public MAE code, FINETUNE.md). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/vit-b_finetune.py',
    '../_base_/datasets/in1k_randaug.py',
    '../_base_/schedules/finetune_50e.py',
]

model = dict(backbone=dict(
    arch='huge', patch_size=14, drop_path_rate=0.3,
    init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')))
