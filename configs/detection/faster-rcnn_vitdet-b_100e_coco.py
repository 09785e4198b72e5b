"""Faster R-CNN, ViTDet-B from MAE weights, COCO, 100 epochs: for annotations without masks.

Run     mae-backbone train faster-rcnn_vitdet-b_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   slightly less than Mask R-CNN, which takes 0.314 s per image and 10.9 GB (detectron2, projects/ViTDet)
Expect  no published figure. Mask R-CNN has 51.6 box AP (detectron2), of which training with masks accounts for about 1
        (He et al., ICCV 2017, table 3). Ours: not measured yet.

Without masks, a box that a crop cuts is clipped to the crop. With masks it is drawn again around what is left of the
object.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/coco-lsj_boxes.py',
    '../_base_/schedules/vitdet_100e.py',
]

model = dict(type='FasterRCNN', roi_head=dict(mask_roi_extractor=None, mask_head=None))
