"""Supervised training of ViT-L/16 from random weights, ImageNet-1K, 200 epochs: the baseline of MAE.

Run     mae-backbone train vit-l_scratch_200e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published
Expect  82.6 top-1 (MAE paper, table 3 and appendix A.2). Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/vit-b_finetune.py',
    '../_base_/datasets/in1k_randaug.py',
    '../_base_/schedules/scratch_200e.py',
]

# The table of the paper (11) lists no random erasing.
model = dict(backbone=dict(arch='large', drop_path_rate=0.2, init_cfg=None), random_erasing=0.0)
# Table 11: a moving average of the weights, 0.9999 of the old value per step. It is what is tested and saved.
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=1e-4)]
