"""Mask2Former on the simple feature pyramid of ViTDet, ViT-B/16 from MAE weights, ADE20K, crops of 512.

Run     mae-backbone train mask2former_vitdet-b_160k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Head, losses, schedule and gradient clipping are as in mmseg's Mask2Former (configs/mask2former, R50, 160,000
iterations). Backbone, pyramid and layer decay are as in upernet_vitdet-b_160k_ade20k-512x512.py; layer decay
replaces mmseg's tenth of the learning rate for the backbone. Without mmcv's compiled ops its deformable attention runs
in PyTorch.
"""
_base_ = ['./upernet_vitdet-b_160k_ade20k-512x512.py']

num_classes = 150
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.segmentation', 'mmdet.models'])
attention = dict(embed_dims=256, num_heads=8, batch_first=True)
positions = dict(num_feats=128, normalize=True)

model = dict(
    decode_head=dict(
        _delete_=True, type='Mask2FormerHead', in_channels=[256] * 4, strides=[4, 8, 16, 32], feat_channels=256,
        out_channels=256, num_classes=num_classes, num_queries=100, num_transformer_feat_level=3, align_corners=False,
        enforce_decoder_input_project=False, positional_encoding=positions,
        pixel_decoder=dict(
            type='mmdet.MSDeformAttnPixelDecoder', num_outs=3, norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'), positional_encoding=positions,
            encoder=dict(num_layers=6, layer_cfg=dict(
                self_attn_cfg=dict(**attention, num_levels=3, num_points=4, dropout=0.0),
                ffn_cfg=dict(embed_dims=256, feedforward_channels=1024, num_fcs=2, ffn_drop=0.0)))),
        transformer_decoder=dict(
            return_intermediate=True, num_layers=9, layer_cfg=dict(
                self_attn_cfg=attention, cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.0))),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss', use_sigmoid=False, loss_weight=2.0, reduction='mean',
            class_weight=[1.0] * num_classes + [0.1]),  # 0.1 for "no object"
        loss_mask=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='mean', loss_weight=5.0),
        loss_dice=dict(
            type='mmdet.DiceLoss', use_sigmoid=True, activate=True, reduction='mean', naive_dice=True, eps=1.0,
            loss_weight=5.0),
        train_cfg=dict(
            num_points=12544, oversample_ratio=3.0, importance_sample_ratio=0.75,
            assigner=dict(type='mmdet.HungarianAssigner', match_costs=[
                dict(type='mmdet.ClassificationCost', weight=2.0),
                dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
                dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0)]),
            sampler=dict(type='mmdet.MaskPseudoSampler'))),
    auxiliary_head=None)

optim_wrapper = dict(clip_grad=dict(max_norm=0.01, norm_type=2), paramwise_cfg=dict(custom_keys=dict(
    query_embed=dict(decay_mult=0.0), query_feat=dict(decay_mult=0.0), level_embed=dict(decay_mult=0.0))))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=0, end=_base_.max_iters)]
