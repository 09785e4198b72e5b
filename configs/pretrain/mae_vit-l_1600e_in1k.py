"""MAE pretraining of ViT-L/16 on ImageNet-1K, 1,600 epochs: as long as the weights that the paper's authors released.

Run     python tools/pretrain.py configs/pretrain/mae_vit-l_1600e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/pretrain.py CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images: --data-root DIR
Costs   twice those of mae_vit-l_800e_in1k.py, about 84 h on 64 V100
Expect  85.9 top-1 after fine-tuning (MAE paper, table 3), 85.7 (mmpretrain). Ours: not measured yet.
"""
_base_ = ['./mae_vit-b_1600e_in1k.py']

model = dict(encoder=dict(arch='large'))
