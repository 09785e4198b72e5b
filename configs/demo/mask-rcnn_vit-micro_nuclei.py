"""Mask R-CNN on a 1.2 M parameter ViT with a simple feature pyramid: instance segmentation of nuclei.

Run     mae-backbone train mask-rcnn_vit-micro_nuclei --data-root nuclei --pretrained MAE.pth
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  docs/benchmarks.md

For your own images, replace what was measured on nuclei: mean and std (`mae-backbone measure` prints them), the anchor
scales, and the crop of 192 pixels in train_pipeline. Annotations without masks: faster-rcnn_vit-micro_nuclei.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vit-micro.py',
    '../_base_/datasets/nuclei.py',
    '../_base_/schedules/micro-detection_600i.py',
]

model = dict(
    data_preprocessor=dict(mean=[37.0] * 3, std=[63.0] * 3),
    # Nuclei measure 6 to 43 pixels across (5th to 95th percentile of the training set): anchors of 12 to 96 pixels.
    rpn_head=dict(anchor_generator=dict(scales=[3])))
