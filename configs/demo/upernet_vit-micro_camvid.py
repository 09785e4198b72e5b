"""UPerNet on a 1.2 M parameter ViT with a simple feature pyramid: street scenes in 11 classes.

Run     mae-backbone train upernet_vit-micro_camvid --data-root camvid --pretrained MAE.pth
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  docs/benchmarks.md

For your own images, replace what was measured on CamVid: mean and std (`mae-backbone measure` prints them), the class
weights (`mae-backbone check`), and the crop of 192 pixels in train_pipeline.
"""
_base_ = [
    '../_base_/models/upernet_vit-micro.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/micro-segmentation_500i.py',
]

model = dict(
    data_preprocessor=dict(mean=[104.5, 107.9, 109.7], std=[78.2, 79.4, 78.3]),
    decode_head=dict(loss_decode=dict(
        # Printed by `mae-backbone check` for the training set: bicyclists cover 0.3 % of the pixels, the road 33 %.
        class_weight=[0.52, 0.44, 2.14, 0.38, 1.0, 0.68, 1.96, 2.0, 0.87, 2.65, 3.92])))
