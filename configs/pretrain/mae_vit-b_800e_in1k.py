"""MAE pretraining of ViT-B/16 on ImageNet-1K, 800 epochs.

Run     mae-backbone pretrain mae_vit-b_800e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 70 h on 8 A100 with 512 images each (mmpretrain#1632: 1.0 s for 4,096 images; 313 steps an epoch)
Expect  83.3 top-1 after fine-tuning, 65.1 with a linear probe (mmpretrain, 800 epochs). Ours: not measured yet.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']
