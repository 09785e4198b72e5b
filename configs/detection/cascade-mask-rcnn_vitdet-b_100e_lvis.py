"""Cascade Mask R-CNN, ViTDet-B from MAE weights, LVIS v1, 100 epochs.

Run     mae-backbone train cascade-mask-rcnn_vitdet-b_100e_lvis --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/lvis_v1/{train2017,val2017}/*.jpg (COCO's images), data/lvis_v1/annotations/lvis_v1_{train,val}.json
Costs   about 990 GPU hours = 0.356 s per image (15.2 GB) x 64 images x 156,250 steps (detectron2, projects/ViTDet, GPU
        not named)
Expect  43.0 box AP, 38.9 mask AP (detectron2, projects/ViTDet, same recipe, runs differ by 0.3). Ours: not measured
        yet.

Loss, data and metric are as in mask-rcnn_vitdet-b_100e_lvis.py.
"""
_base_ = [
    '../_base_/models/cascade-mask-rcnn_vitdet-b.py',
    '../_base_/datasets/lvis-lsj.py',
    '../_base_/schedules/vitdet_100e_lvis.py',
]

model = dict(
    roi_head=dict(
        bbox_head=[dict(head, num_classes=1203, loss_cls=dict(type='mae_backbone.FederatedLoss'))
                   for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))
