"""Fine-tuning of ViT-B/16 from MAE weights, ImageNet-1K, 100 epochs.

Run     mae-backbone train vit-b_100e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   7 h 11 min on 32 V100 (public MAE code, FINETUNE.md)
Expect  83.6 top-1, 83.57 +- 0.08 over four seeds (public MAE code, FINETUNE.md). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/vit-b_finetune.py',
    '../_base_/datasets/in1k_randaug.py',
    '../_base_/schedules/finetune_100e.py',
]
