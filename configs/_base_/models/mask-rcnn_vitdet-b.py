"""Mask R-CNN on ViTDet-B (detectron2, projects/ViTDet and configs/common/models/mask_rcnn_vitdet.py)."""
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

norm_cfg = dict(type='mae_backbone.LayerNorm2d', eps=1e-6)
# mmdet's, except for the fully connected layers: detectron2's `c2_xavier_fill` is uniform with a deviation of
# 1 / sqrt(inputs), 0.0089 in the first layer.
box_head_init = [
    dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
    dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
    dict(type='Kaiming', a=1, mode='fan_in', nonlinearity='leaky_relu', distribution='uniform',
         override=dict(name='shared_fcs')),
]

model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),  # zeros after normalization, in testing too
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch='base', image_size=1024, pretrain_image_size=224,
        patch_size=16, drop_path_rate=0.1, window_size=14, global_blocks=[2, 5, 8, 11], relative_positions=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(_delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256),
    rpn_head=dict(type='mae_backbone.RPNHead', num_convs=2),  # it and the extractors keep boxes in float32 under --amp
    roi_head=dict(
        bbox_roi_extractor=dict(type='mae_backbone.SingleRoIExtractor'),
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg,
                       init_cfg=box_head_init),
        mask_roi_extractor=dict(type='mae_backbone.SingleRoIExtractor'),
        mask_head=dict(type='mae_backbone.FCNMaskHead', norm_cfg=norm_cfg)),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))))
