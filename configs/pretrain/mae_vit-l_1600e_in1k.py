"""MAE pretraining of ViT-L/16 on ImageNet-1K, 1,600 epochs: the length of the released weights.

Run     mae-backbone pretrain mae_vit-l_1600e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 84 h on 64 V100 (twice mae_vit-l_800e_in1k.py)
Expect  85.9 top-1 after fine-tuning (MAE paper, table 3), 85.7 and 75.5 with a linear probe (mmpretrain). Ours: not
        measured yet.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

model = dict(encoder=dict(arch='large'))
train_cfg = dict(max_epochs=1600)
