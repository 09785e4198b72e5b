"""Mask R-CNN, windows connected by convolutions, ViTDet-L from MAE weights, COCO, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-l-conv_100e_coco.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   not known to us; the base: .603 s an image, 20.9 GB (detectron2, projects/ViTDet)
Expect  54.8 box AP; four global blocks 54.6 (ViTDet paper, table 2). Ours: not measured yet.

Residual convolutions end the blocks that otherwise attend to all patches.
"""
_base_ = ['./mask-rcnn_vitdet-l_100e_coco.py']

model = dict(backbone=dict(global_blocks=[], conv_blocks=[5, 11, 17, 23]))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(residual=dict())))  # their norms decay, as there
