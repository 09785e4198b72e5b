"""Linear probe on the class token of a frozen DINOv2 ViT-B/14 of timm, ImageNet-1K, 90 epochs.

Run     mae-backbone train timm-dinov2-b_linear_90e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights weights/vit_base_patch14_reg4_dinov2.lvd142m, a copy of that repository of the Hugging Face hub; or
        --pretrained FILE, or --pretrained timm, which downloads them
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not measured yet. An epoch is 1,281,167 forward passes.
Expect  84.6 top-1 with DINOv2's own protocol, which also uses the mean of the patches (facebookresearch/dinov2,
        README). Ours: not measured yet.

Optimizer and schedule are as in the MAE paper's linear probe, so that both can be compared.
"""
_base_ = [
    '../_base_/models/timm-dinov2-b_classifier.py', '../_base_/datasets/in1k.py', '../_base_/schedules/probe_90e.py']

model = dict(probe=True)
train_dataloader = dict(batch_size=512)  # a frozen backbone stores nothing for a backward pass
