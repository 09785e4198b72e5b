"""Mask R-CNN on ViTDet-B (detectron2, projects/ViTDet and configs/common/models/mask_rcnn_vitdet.py)."""
_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py']

norm_cfg = dict(type='mae_backbone.LayerNorm2d', eps=1e-6)

model = dict(
    data_preprocessor=dict(pad_size_divisor=1024),  # zeros after normalization, in testing too
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch='base', image_size=1024, pretrain_image_size=224,
        patch_size=16, drop_path_rate=0.1, window_size=14, global_blocks=[2, 5, 8, 11], relative_positions=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(_delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))))
