"""Linear probe of ViT-B/16 with MAE weights, ImageNet-1K, 90 epochs.

Run     mae-backbone train vit-b_linear_90e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   2 h 20 min on 32 V100 (public MAE code, FINETUNE.md)
Expect  67.8 top-1 (public MAE code, FINETUNE.md), 68.0 (MAE paper). Ours: not measured yet.

Crops take 8 to 100 % of the area and are flipped, as in the paper. One difference: timm draws a box again that does not
fit into the image, the public code (util/crop.py, a single draw like TensorFlow's) clips it. For 4:3 images that is a
quarter of all boxes.
"""
_base_ = ['../_base_/models/vit-b_probe.py', '../_base_/datasets/in1k.py', '../_base_/schedules/probe_90e.py']

train_dataloader = dict(batch_size=512)  # a frozen backbone stores nothing for a backward pass
