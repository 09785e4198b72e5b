"""Mask R-CNN with shifted windows, ViTDet-L from MAE weights, COCO, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-l-shifted_100e_coco --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-l_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco/{train2017,val2017}/*.jpg, data/coco/annotations/instances_{train,val}2017.json
Costs   not known; the base config: 0.603 s per image, 20.9 GB (detectron2, projects/ViTDet)
Expect  54.0 box AP; four global blocks have 54.6 (ViTDet paper, table 2). Ours: not measured yet.

The windows of every second block are shifted by 7 patches. Padding at the edges is attended to, as everywhere in
ViTDet. Swin masks it.
"""
_base_ = ['./mask-rcnn_vitdet-l_100e_coco.py']

model = dict(backbone=dict(global_blocks=[], shifted_windows=True))
