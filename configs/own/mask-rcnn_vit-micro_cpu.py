"""Mask R-CNN on a 1.2 M parameter ViT, your own images in crops of 192 pixels, for a CPU.

Run     mae-backbone train mask-rcnn_vit-micro_cpu --data-root DIR --pretrained MAE.pth
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  no published figure. Ours: not measured yet.

MAE.pth is a checkpoint of mae_vit-micro_cpu on your images.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vit-micro.py',
    '../_base_/datasets/nuclei.py',
    '../_base_/schedules/micro-detection_600i.py',
]

data_root = 'data/own'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
metainfo = dict(_delete_=True, classes=('object',), palette=[(220, 20, 60)])
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val.json')
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=1e-3))  # the best of three, docs/benchmarks.md#planned-recipes
