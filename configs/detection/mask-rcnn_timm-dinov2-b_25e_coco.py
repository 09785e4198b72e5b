"""Mask R-CNN, DINOv2 ViT-B of timm with the simple feature pyramid of ViTDet, COCO, 25 epochs.

Run     mae-backbone train mask-rcnn_timm-dinov2-b_25e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights weights/vit_base_patch14_reg4_dinov2.lvd142m, a copy of that repository of the Hugging Face hub; or
        --pretrained FILE, or --pretrained timm, which downloads them
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   more than mask-rcnn_vitdet-b_25e_coco: all twelve blocks attend to all 4,096 patches. Not measured yet.
        model.backbone.checkpointing=True saves memory.
Expect  no published figure. Ours: not measured yet.

Everything but the backbone is as in mask-rcnn_vitdet-b_25e_coco.py, so that a MAE can be compared with it. Any other
ViT of timm: model.backbone.name, and model.neck.in_channels for another width.
"""
_base_ = [
    '../_base_/models/mask-rcnn_timm-dinov2-b.py',
    '../_base_/datasets/coco-lsj.py',
    '../_base_/schedules/vitdet_25e.py',
]

# Class and register tokens do not decay either, as in timm.
optim_wrapper = dict(paramwise_cfg=dict(no_decay_of_model=True))
