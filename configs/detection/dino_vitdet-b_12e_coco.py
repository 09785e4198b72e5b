"""DINO, a query-based detector, on ViTDet-B from MAE weights, COCO, 12 epochs.

Run     mae-backbone train dino_vitdet-b_12e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp (16 images per
        step)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   not measured yet
Expect  no published figure of this combination. With a ResNet-50, mmdet's DINO has 49.0 box AP after 12 epochs (its
        README). Ours: not measured yet.

mmdet's dino-4scale_r50 with its data and schedule and another backbone. Without mmcv's compiled ops its deformable
attention runs in PyTorch (`mae_backbone.mmcv_ext`): correct on CPU and GPU, slower than the compiled kernel. The
backbone has a tenth of the learning rate, as the ResNet has, and layer decay in addition.
"""
_base_ = ['mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py']

# mae_backbone comes first: it installs the replacements for mmcv's compiled ops, which mmdet imports.
custom_imports = dict(imports=['mae_backbone', 'mae_backbone.detection'])

model = dict(
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch='base', image_size=1024, pretrain_image_size=224,
        patch_size=16, drop_path_rate=0.1, window_size=14, global_blocks=[2, 5, 8, 11], relative_positions=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    neck=dict(
        _delete_=True, type='mae_backbone.SimpleFeaturePyramid', in_channels=768, out_channels=256,
        strides=(8, 16, 32, 64), extra_levels=0))

optim_wrapper = dict(constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(layer_decay=0.7))
auto_scale_lr = dict(enable=True)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='coco/bbox_mAP', rule='greater'))
# Each process has its own seed. With one seed for all, every GPU would draw the same crops and dropped paths.
randomness = dict(seed=0, diff_rank_seed=True)
