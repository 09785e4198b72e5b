"""MAE pretraining of ViT-L/16 on ImageNet-1K, 400 epochs.

Run     mae-backbone pretrain mae_vit-l_400e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 21 h on 64 V100 (half of mae_vit-l_800e_in1k.py)
Expect  85.2 top-1 after fine-tuning, 70.7 with a linear probe (mmpretrain, 400 epochs). Ours: not measured yet.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

model = dict(encoder=dict(arch='large'))
train_cfg = dict(max_epochs=400)
