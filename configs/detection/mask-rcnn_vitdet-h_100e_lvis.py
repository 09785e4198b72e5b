"""Mask R-CNN, ViTDet-H from MAE weights, LVIS v1, 100 epochs.

Run     python tools/train.py configs/detection/mask-rcnn_vitdet-h_100e_lvis.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
            --cfg-options train_dataloader.batch_size=8 (64 images a step; with fewer it is not 100 epochs)
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/lvis_v1/{train2017,val2017}/*.jpg (those of COCO), data/lvis_v1/annotations/lvis_v1_{train,val}.json
        LVIS's metric: python -m pip install -e ".[lvis]"
Costs   about 2,940 GPU hours: 1.059 s an image, 35.3 GB (detectron2, projects/ViTDet) x 64 x 156,250 steps
Expect  49.1 box AP, 46.0 mask AP (detectron2, projects/ViTDet, same recipe, runs differ by .3). Ours: not
        measured yet.

Drop path .4, for .5 on COCO. Patches and positions are resized when the weights are loaded; all parameters decay.
"""
_base_ = ['./mask-rcnn_vitdet-b_100e_lvis.py']

model = dict(
    backbone=dict(
        arch='huge', drop_path_rate=0.4, global_blocks=[7, 15, 23, 31],
        init_cfg=dict(checkpoint='work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth')),
    neck=dict(in_channels=1280))

optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(_delete_=True, layer_decay=0.9))  # norms and positions decay too, as there
