"""FCOS, a one-stage detector, on ViTDet-B from MAE weights, COCO, 25 epochs.

Run     mae-backbone train fcos_vitdet-b_25e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   not measured yet. Backbone and pyramid are as in ViTDet-B, the head runs on five strides.
Expect  no published figure of this combination. Ours: not measured yet.

The pyramid has the strides 8 to 128 that FCOS needs. Head and losses are as in mmdet's fcos_r50-caffe_fpn_gn-head.
Data, optimizer and schedule are as in ViTDet.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj_boxes.py',
    '../_base_/schedules/vitdet_25e.py',
]

model = dict(
    _delete_=True, type='FCOS', data_preprocessor=_base_.model.data_preprocessor, backbone=_base_.model.backbone,
    neck=dict(type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256, strides=(8, 16, 32, 64),
              extra_levels=1),
    bbox_head=dict(
        type='mae_backbone.FCOSHead', num_classes=80, in_channels=256, stacked_convs=4, feat_channels=256,
        strides=[8, 16, 32, 64, 128], loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(type='IoULoss', loss_weight=1.0),
        loss_centerness=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)),
    test_cfg=dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                  max_per_img=100))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True, pos_embed=dict(decay_mult=0.0), neck=dict())))
