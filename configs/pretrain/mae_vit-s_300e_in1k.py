"""MAE pretraining of ViT-S/16 on ImageNet-1K, 300 epochs.

Run     mae-backbone pretrain mae_vit-s_300e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   no published figure; a step takes about two thirds of the arithmetic of ViT-B/16, with the same decoder
Expect  no published figure; after 800 epochs a linear probe of 49.7 top-1 (CrossMAE#4, a user's run). Ours: not
        measured yet.

The paper trains no ViT-S. The constants are as in ViT-B.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

model = dict(encoder=dict(arch='small'))
train_cfg = dict(max_epochs=300)
