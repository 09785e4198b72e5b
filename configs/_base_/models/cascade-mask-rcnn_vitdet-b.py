"""Cascade Mask R-CNN on ViTDet-B: three box heads instead of one (detectron2, projects/ViTDet)."""
_base_ = ['./mask-rcnn_vitdet-b.py']

box_head = dict(
    type='Shared4Conv1FCBBoxHead', in_channels=256, conv_out_channels=256, fc_out_channels=1024, roi_feat_size=7,
    num_classes=80, norm_cfg=_base_.norm_cfg, reg_class_agnostic=True, loss_cls=dict(type='CrossEntropyLoss'),
    loss_bbox=dict(type='L1Loss'), init_cfg=_base_.box_head_init)
coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0, 0.0, 0.0, 0.0])
# The reciprocals of detectron2's weights (10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15).
stage_1 = dict(bbox_coder=dict(target_stds=[1 / 10, 1 / 10, 1 / 5, 1 / 5], **coder), **box_head)
stage_2 = dict(bbox_coder=dict(target_stds=[1 / 20, 1 / 20, 1 / 10, 1 / 10], **coder), **box_head)
stage_3 = dict(bbox_coder=dict(target_stds=[1 / 30, 1 / 30, 1 / 15, 1 / 15], **coder), **box_head)
matcher = dict(type='MaxIoUAssigner', match_low_quality=False, ignore_iof_thr=-1)
sampler = dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True)
common = dict(mask_size=28, pos_weight=-1, debug=False)

model = dict(
    type='CascadeRCNN',
    roi_head=dict(type='mae_backbone.CascadeRoIHead', num_stages=3, bbox_head=[stage_1, stage_2, stage_3]),
    train_cfg=dict(rcnn=[
        dict(assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, **matcher), sampler=sampler, **common),
        dict(assigner=dict(pos_iou_thr=0.6, neg_iou_thr=0.6, min_pos_iou=0.6, **matcher),
             sampler=dict(type='PseudoSampler'), **common),  # the later stages keep all boxes of the first
        dict(assigner=dict(pos_iou_thr=0.7, neg_iou_thr=0.7, min_pos_iou=0.7, **matcher),
             sampler=dict(type='PseudoSampler'), **common)]))
