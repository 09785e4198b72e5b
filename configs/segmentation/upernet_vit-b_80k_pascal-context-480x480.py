"""UPerNet, ViT-B/16 from MAE weights, Pascal Context (59 classes), crops of 480, 80,000 iterations.

Run     mae-backbone train upernet_vit-b_80k_pascal-context-480x480 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/VOCdevkit/VOC2010/{JPEGImages,SegmentationClassContext}/, ImageSets/SegmentationContext/{train,val}.txt
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Crops, test windows and iterations are as in mmseg for this set. Model and optimizer are as in our ADE20K recipe.
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/pascal-context-480x480.py',
    '../_base_/schedules/upernet_80k.py',
]

crop_size = (480, 480)

model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=480),
    decode_head=dict(num_classes=59), auxiliary_head=dict(num_classes=59),
    test_cfg=dict(crop_size=crop_size, stride=(320, 320)))
