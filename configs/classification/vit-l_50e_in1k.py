"""Fine-tuning of ViT-L/16 from MAE weights, ImageNet-1K, 50 epochs.

Run     mae-backbone train vit-l_50e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   8 h 52 min on 32 V100 (public MAE code, FINETUNE.md)
Expect  85.9 top-1, 85.87 +- 0.07 over four seeds (public MAE code, FINETUNE.md). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/vit-b_finetune.py',
    '../_base_/datasets/in1k_randaug.py',
    '../_base_/schedules/finetune_50e.py',
]

model = dict(backbone=dict(
    arch='large', drop_path_rate=0.2, init_cfg=dict(checkpoint='work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth')))
