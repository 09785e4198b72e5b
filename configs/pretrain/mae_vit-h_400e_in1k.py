"""MAE pretraining of ViT-H/14 on ImageNet-1K, 400 epochs.

Run     mae-backbone pretrain mae_vit-h_400e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   about 17.2 h on 128 TPUv3 cores (half of mae_vit-h_800e_in1k.py)
Expect  no published figure; after 1,600 epochs and fine-tuning 86.9 top-1 (MAE paper, table 3). Ours: not measured yet.
"""
_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/datasets/in1k_unlabeled.py', '../_base_/schedules/mae_800e.py']

model = dict(encoder=dict(arch='huge', patch_size=14))
train_cfg = dict(max_epochs=400)
