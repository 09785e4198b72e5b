"""MAE pretraining of ViT-B/16 on ImageNet-1K, 1,600 epochs: the length of the released weights.

Run     mae-backbone pretrain mae_vit-b_1600e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 140 h on 8 A100 (twice mae_vit-b_800e_in1k.py)
Expect  83.6 top-1 after fine-tuning (MAE paper, table 3), 83.5 and 67.1 with a linear probe (mmpretrain). Ours: not
        measured yet.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

train_cfg = dict(max_epochs=1600)
