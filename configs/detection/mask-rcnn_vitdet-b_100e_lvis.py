"""Mask R-CNN, ViTDet-B from MAE weights, LVIS v1, 100 epochs.

Run     mae-backbone train mask-rcnn_vitdet-b_100e_lvis --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images per step; with fewer it is fewer epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/lvis_v1/{train2017,val2017}/*.jpg (COCO's images), data/lvis_v1/annotations/lvis_v1_{train,val}.json
Costs   about 880 GPU hours = 0.317 s per image (14.4 GB) x 64 images x 156,250 steps (detectron2, projects/ViTDet, GPU
        not named)
Expect  40.2 box AP, 38.2 mask AP (detectron2, projects/ViTDet, same recipe, runs differ by 0.3). Ours: not measured
        yet.

LVIS lists for each image which classes are present and which are absent. All others are unknown. The loss uses the
classes of the batch and some drawn by their frequency (federated loss with sigmoid cross entropy), images with rare
classes are repeated (those below a frequency of 0.001), and the metric ignores boxes of unknown classes.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vitdet-b.py',
    '../_base_/datasets/lvis-lsj.py',
    '../_base_/schedules/vitdet_100e_lvis.py',
]

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=1203, loss_cls=dict(_delete_=True, type='mae_backbone.FederatedLoss')),
        mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))
