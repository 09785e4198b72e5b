"""Dense linear probe: one linear layer on the patches of a frozen 1.2 M parameter ViT, street scenes in 11 classes.

Run     mae-backbone train dense-linear_vit-micro_camvid --data-root camvid --pretrained MAE.pth
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  docs/benchmarks.md

For your own images, replace what was measured on CamVid: see upernet_vit-micro_camvid.py.
"""
_base_ = ['./upernet_vit-micro_camvid.py']

# As in pretraining: with class token and final norm, without windows and relative positions.
model = dict(
    backbone=dict(
        _delete_=True, type='mae_backbone.ViTBackbone', arch=dict(width=128, depth=6, heads=4), patch_size=8,
        image_size=192, pretrain_image_size=64, class_token=True, final_norm=True, frozen_stages=6),
    neck=None,
    decode_head=dict(
        _delete_=True, type='FCNHead', in_channels=128, in_index=0, channels=128, num_convs=0, concat_input=False,
        dropout_ratio=0.0, num_classes=11, align_corners=False, loss_decode=_base_.model.decode_head.loss_decode))
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=1e-3))
