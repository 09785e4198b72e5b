"""UPerNet, ViT-B/16 from MAE weights, Cityscapes, crops of 768, 80,000 iterations.

Run     mae-backbone train upernet_vit-b_80k_cityscapes-768x768 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/cityscapes/{leftImg8bit,gtFine}/{train,val}/CITY/, with the *_labelTrainIds.png of cityscapesscripts
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Crops, test windows and iterations are as in mmseg's SETR (configs/setr). Model and optimizer are as in our ADE20K
recipe.
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/cityscapes-768x768.py',
    '../_base_/schedules/upernet_80k.py',
]

crop_size = (768, 768)

model = dict(
    data_preprocessor=dict(size=crop_size, test_cfg=dict(size=crop_size)),
    backbone=dict(image_size=768),
    decode_head=dict(num_classes=19), auxiliary_head=dict(num_classes=19),
    test_cfg=dict(crop_size=crop_size, stride=(512, 512)))
