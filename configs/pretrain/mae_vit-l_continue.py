"""MAE pretraining of ViT-L/16 on your own images, from public weights: 100 epochs.

Run     mae-backbone pretrain mae_vit-l_continue --data-root DIR --pretrained mae_pretrain_vit_large_full.pth --amp
        from a file without decoder: --cfg-options model.freeze_encoder_iters=N, with N about the steps of 5 epochs
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    any folder of images
Costs   a step costs as much as in mae_vit-l_800e_in1k
Expect  no published figure for MAE. Ours: not measured yet at this size, small ViTs in docs/pretraining.md

Set mean and std of your images (`mae-backbone measure` prints them) only if they differ much from photographs: the
weights have seen ImageNet's.
"""
_base_ = [
    '../_base_/models/mae_vit-b.py',
    '../_base_/datasets/in1k_unlabeled.py',
    '../_base_/schedules/mae_continue.py',
]

model = dict(encoder=dict(arch='large'))
