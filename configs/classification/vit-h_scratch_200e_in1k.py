"""Supervised training of ViT-H/14 from random weights, ImageNet-1K, 200 epochs: the baseline of MAE.

Run     mae-backbone train vit-h_scratch_200e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published
Expect  83.1 top-1 (MAE paper, table 3 and appendix A.2). Ours: not measured yet.
"""
_base_ = ['./vit-l_scratch_200e_in1k.py']

model = dict(backbone=dict(arch='huge', patch_size=14))
