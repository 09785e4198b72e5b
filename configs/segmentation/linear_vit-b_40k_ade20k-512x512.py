"""Linear head on a frozen ViT-B/16 with MAE weights, ADE20K, crops of 512, 40,000 iterations: a cheap probe.

Run     mae-backbone train linear_vit-b_40k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet. The backbone has no backward pass.
Expect  no published figure. Ours: not measured yet.

Iterations, batch, learning rate and weight decay are as in DINOv3's linear segmentation. The BatchNorm before the
linear layer is as in the MAE paper's linear probing (appendix A.1).
"""
_base_ = [
    '../_base_/models/linear_vit-b.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/dense-probe_40k.py',
]
