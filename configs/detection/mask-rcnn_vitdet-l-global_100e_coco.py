"""Mask R-CNN, all blocks global, ViTDet-L from MAE weights, COCO, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-l-global_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   not published in GB: 3.34 times the memory (ViTDet paper, of a row that we have not checked). The base: .603 s
        an image, 20.9 GB (detectron2, projects/ViTDet)
Expect  55.1 box AP; four global blocks 54.6 (ViTDet paper, table 2). Ours: not measured yet.
"""
_base_ = ['./mask-rcnn_vitdet-l_100e_coco.py']

model = dict(backbone=dict(window_size=0, global_blocks=[]))
