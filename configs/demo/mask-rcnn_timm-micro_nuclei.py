"""Mask R-CNN on a small ViT of timm with registers and LayerScale, as DINOv2 has them: instance segmentation of nuclei.

Run     mae-backbone train mask-rcnn_timm-micro_nuclei --data-root nuclei
Data    any set in COCO format: train/, val/, annotations/instances_{train,val}.json; classes are read from the JSON
Expect  nothing measured: it starts from random weights and shows how a ViT of timm is configured

For a pretrained one: name it in model.backbone.name, remove its options below, set neck.in_channels to its width, and
pass --pretrained FILE.
"""
_base_ = ['./mask-rcnn_vit-micro_nuclei.py']

model = dict(
    backbone=dict(
        _delete_=True, type='mae_backbone.TimmViT', name='vit_tiny_patch16_224', image_size=192, patch_size=8,
        embed_dim=128, depth=6, num_heads=4, reg_tokens=4, init_values=1e-5, drop_path_rate=0.1))
optim_wrapper = dict(paramwise_cfg=dict(no_decay_of_model=True))
