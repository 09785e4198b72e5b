"""Mask R-CNN, ViTDet-B from MAE weights, COCO, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-b_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   about 1,030 GPU hours: .314 s an image, 10.9 GB (detectron2, projects/ViTDet) x 64 x 184,375 steps
Expect  51.6 box AP, 45.9 mask AP (detectron2, projects/ViTDet, same recipe). Ours: not measured yet.

As in detectron2, the norms of the ViT and its positions do not decay; biases, tables of relative positions and the
norms of pyramid and heads do. Images are resized by OpenCV here, by PIL there.
"""
_base_ = ['../_base_/vitdet.py', '../_base_/coco_lsj.py']
