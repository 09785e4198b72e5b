"""Cascade Mask R-CNN, ViTDet-B from MAE weights, LVIS v1, 100 epochs.

Run     python tools/train.py configs/detection/cascade-mask-rcnn_vitdet-b_100e_lvis.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/lvis_v1/{train2017,val2017}/*.jpg (those of COCO), data/lvis_v1/annotations/lvis_v1_{train,val}.json
        LVIS's metric: python -m pip install -e ".[lvis]"
Costs   about 990 GPU hours: .356 s an image, 15.2 GB (detectron2, projects/ViTDet) x 64 x 156,250 steps
Expect  43.0 box AP, 38.9 mask AP (detectron2, projects/ViTDet, same recipe, runs differ by .3). Ours: not
        measured yet.

Loss, data and metric are those of mask-rcnn_vitdet-b_100e_lvis.py.
"""
_base_ = ['../_base_/vitdet_cascade.py', '../_base_/lvis_lsj.py']

max_iters = 156_250  # 100 epochs * 100_000 images / 64 a step
milestones = [138_889, 150_463]

model = dict(
    roi_head=dict(
        bbox_head=[dict(head, num_classes=1203, loss_cls=dict(type='mae_backbone.FederatedLoss'))
                   for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=1203)),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=300)))

optim_wrapper = dict(optimizer=dict(lr=2e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250 + 1),
    dict(type='MultiStepLR', by_epoch=False, begin=0, end=max_iters, milestones=milestones, gamma=0.1),
]
train_cfg = dict(max_iters=max_iters)
default_hooks = dict(checkpoint=dict(save_best='lvis/bbox_AP'))
