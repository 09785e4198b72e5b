"""Linear head on a frozen DINOv2 ViT-B/14 of timm, ADE20K, crops of 518, 40,000 iterations.

Run     mae-backbone train linear_timm-dinov2-b_40k_ade20k-518x518 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights weights/vit_base_patch14_reg4_dinov2.lvd142m, a copy of that repository of the Hugging Face hub; or
        --pretrained FILE, or --pretrained timm, which downloads them
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet. The backbone has no backward pass.
Expect  51.3 mIoU with a linear layer on four blocks at several scales, without registers (facebookresearch/dinov2,
        MODEL_CARD.md); with the last block as here: no figure in these sources. Ours: not measured yet.

Everything but backbone and crop is as in linear_vit-b_40k_ade20k-512x512.py, so that a MAE can be compared with it.
"""
_base_ = [
    '../_base_/models/linear_timm-dinov2-b.py',
    '../_base_/datasets/ade20k-518x518.py',
    '../_base_/schedules/dense-probe_40k.py',
]
