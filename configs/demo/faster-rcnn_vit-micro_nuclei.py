"""Faster R-CNN on a 1.2 M parameter ViT with a simple feature pyramid: for annotations that have boxes and no masks.

Run     mae-backbone train faster-rcnn_vit-micro_nuclei --data-root nuclei --pretrained MAE.pth
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  not measured yet; with masks: docs/benchmarks.md

For your own images, replace what was measured on nuclei: mean and std (`mae-backbone measure` prints them), the anchor
scales, and the crop of 192 pixels in train_pipeline.
"""
_base_ = [
    '../_base_/models/mask-rcnn_vit-micro.py',
    '../_base_/datasets/nuclei_boxes.py',
    '../_base_/schedules/micro-detection_600i.py',
]

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(mean=[37.0] * 3, std=[63.0] * 3),
    # Nuclei measure 6 to 43 pixels across (5th to 95th percentile of the training set): anchors of 12 to 96 pixels.
    rpn_head=dict(anchor_generator=dict(scales=[3])),
    roi_head=dict(mask_roi_extractor=None, mask_head=None))
