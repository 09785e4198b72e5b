"""MAE pretraining of ViT-B/16 on ImageNet-1K, 300 epochs.

Run     mae-backbone pretrain mae_vit-b_300e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 26.2 h on 8 A100 (3/8 of mae_vit-b_800e_in1k.py)
Expect  83.1 top-1 after fine-tuning, 60.8 with a linear probe (mmpretrain, 300 epochs). Ours: not measured yet.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

train_cfg = dict(max_epochs=300)
