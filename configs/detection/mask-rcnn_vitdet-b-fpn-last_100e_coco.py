"""Mask R-CNN with an FPN over the last map, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-b-fpn-last_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about those of the base: .314 s an image, 10.9 GB (detectron2, projects/ViTDet)
Expect  50.9 box AP, 45.3 mask AP; the simple pyramid 51.2 / 45.5 (ViTDet paper, table 1). Ours: not measured yet.

The last map alone, rescaled to four strides, and an FPN over them (figure 2b of the paper).
"""
_base_ = ['./mask-rcnn_vitdet-b-fpn_100e_coco.py']

model = dict(backbone=dict(out_indices=[-1]))
