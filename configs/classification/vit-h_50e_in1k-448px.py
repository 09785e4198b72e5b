"""Fine-tuning of ViT-H/14 from MAE weights at 448 pixels, ImageNet-1K, 50 epochs.

Run     mae-backbone train vit-h_50e_in1k-448px --amp
        on 64 GPUs: torchrun --nnodes 8 --nproc_per_node 8 ... -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, pretrained at 224 pixels. Position embeddings are resized, which
        the log reports.
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published. An image has 1,024 patches instead of 256, more than 4 times the arithmetic. To save memory:
        --cfg-options model.backbone.checkpointing=True
Expect  87.8 top-1 (MAE paper), 87.3 (mmpretrain). Ours: not measured yet.
"""
_base_ = ['./vit-h_50e_in1k.py']

image_size = 448

model = dict(backbone=dict(image_size=image_size))
train_dataloader = dict(batch_size=16, dataset=dict(image_size=image_size))
# Short side 512, center crop 448 (mmpretrain). By default, nothing is cropped above 224 pixels.
val_dataloader = dict(batch_size=32, dataset=dict(image_size=image_size, augment=dict(crop_pct=0.875)))
test_dataloader = val_dataloader
