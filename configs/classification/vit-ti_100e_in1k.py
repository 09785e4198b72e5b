"""Fine-tuning of ViT-Ti/16 from MAE weights, ImageNet-1K, 100 epochs.

Run     mae-backbone train vit-ti_100e_in1k --amp --pretrained FILE
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp --pretrained FILE
Weights from mae-backbone pretrain mae_vit-s_800e_in1k --cfg-options model.encoder.arch=tiny
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published. A step takes about a fourteenth of the arithmetic of ViT-B.
Expect  no published figure. The MAE paper starts at ViT-B, whose recipe this is, without drop path. Ours: not measured
        yet.
"""
_base_ = ['./vit-b_100e_in1k.py']

model = dict(backbone=dict(
    arch='tiny', drop_path_rate=0.0, init_cfg=dict(checkpoint='work_dirs/mae_vit-s_800e_in1k/epoch_800.pth')))
