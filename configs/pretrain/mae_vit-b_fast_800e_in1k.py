"""MAE pretraining of ViT-B/16 on ImageNet-1K, 800 epochs with less arithmetic per image.

Run     mae-backbone pretrain mae_vit-b_fast_800e_in1k --amp
        on your own images: --data-root DIR
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone pretrain CONFIG --launcher pytorch --amp
Data    data/imagenet/train/CLASS/*.JPEG (1,281,167 images), or any folder of images
Costs   0.41 of the FLOPs of mae_vit-b_800e_in1k: `mae-backbone benchmark flops mae_vit-b_fast_800e_in1k --against
        mae_vit-b_800e_in1k`. Time is not measured yet.
Expect  no published figure of these changes together. Ours: not measured yet.
"""
_base_ = [
    '../_base_/models/mae-fast_vit-b.py', '../_base_/datasets/in1k_unlabeled.py',
    '../_base_/schedules/mae-fast_800e.py']
