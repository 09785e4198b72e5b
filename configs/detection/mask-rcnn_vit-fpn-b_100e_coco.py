"""Mask R-CNN, ViT-B with an FPN as in the MAE paper (before ViTDet), COCO, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vit-fpn-b_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about those of ViTDet-B: 1,030 GPU hours, 10.9 GB (detectron2, projects/ViTDet)
Expect  50.3 box AP, 44.9 mask AP (MAE paper, table 4; facebookresearch/mae#43; MIMDet: 50.4 / 44.9). Ours: not measured
        yet.

Li et al., Benchmarking Detection Transfer Learning with Vision Transformers (2021), as MIMDet has it in
configs/benchmarking: the outputs of four blocks, each rescaled to a stride of its own, a true FPN over them, batch norm
in FPN and heads, windows of 16 patches, a cosine schedule, one learning rate for all layers. On purpose different:
relative positions are ViTDet's decomposed ones, not BEiT's bias for each pair; images are flipped before they are
scaled, there after the crop, which is the same in distribution.
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_coco.py']

max_iters = 184_375
norm_cfg = dict(type='SyncBN', requires_grad=True)  # MMEngine makes it a plain BatchNorm in a single process

model = dict(
    backbone=dict(window_size=16, out_indices=[2, 5, 8, 11]),
    neck=[
        dict(type='mae_backbone.Rescale', in_channels=768, narrowing=False, norm='GN'),
        dict(type='FPN', in_channels=[768, 768, 768, 768], out_channels=256, num_outs=5, norm_cfg=norm_cfg),
    ],
    roi_head=dict(
        bbox_head=dict(norm_cfg=dict(_delete_=True, **norm_cfg)),
        mask_head=dict(norm_cfg=dict(_delete_=True, **norm_cfg))))

optim_wrapper = dict(
    optimizer=dict(lr=8e-5),
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, custom_keys={'pos_embed': dict(decay_mult=0.0),
                                                                        'rel_pos': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=461 + 1),  # .25 epochs * 118_000 / 64
    # From the first iteration on, as in detectron2: the warm-up is a factor of it.
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters, T_max=max_iters, eta_min=0.0),
]
