"""MAE pretraining of ViT-S/16 on your own images, from weights of your own: 100 epochs.

Run     mae-backbone pretrain mae_vit-s_continue --data-root YOUR/IMAGES --pretrained MAE.pth --amp
        from a file without decoder: --cfg-options model.freeze_encoder_iters=N, with N about the steps of 5 epochs
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    any folder of images
Costs   a step costs as much as in mae_vit-s_800e_in1k
Expect  no published figure for MAE. Ours: not measured yet at this size, small ViTs in docs/pretraining.md

The public MAE code has no weights of ViT-S. Those of MAE-Lite have 12 heads (arch=dict(width=384, depth=12, heads=12))
and a decoder of width 192 with 1 block of 6 heads.

Set mean and std of your images (`mae-backbone measure` prints them) only if they differ much from photographs: the
weights have seen ImageNet's.
"""
_base_ = [
    '../_base_/models/mae_vit-b.py',
    '../_base_/datasets/in1k_unlabeled.py',
    '../_base_/schedules/mae_continue.py',
]

model = dict(encoder=dict(arch='small'))
