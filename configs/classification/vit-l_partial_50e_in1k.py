"""Partial fine-tuning of ViT-L/16 from MAE weights: the last block and the head, ImageNet-1K, 50 epochs.

Run     mae-backbone train vit-l_partial_50e_in1k --amp
        other numbers of blocks: --cfg-options model.tuned_blocks=4 (0; 0.5 for the MLP of the last block; 1, 2, ... 24)
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-l_800e_in1k/epoch_800.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   not published. Blocks below the trained ones have no backward pass.
Expect  81.0 top-1 with one block, 73.5 with none (only the head is trained: a linear probe), about 84.9 with 4 to 6
        blocks (MAE paper, figure 9, the best of 50, 100 and 200 epochs for each). Ours: not measured yet.
"""
_base_ = ['./vit-l_50e_in1k.py']

model = dict(
    tuned_blocks=1, backbone=dict(init_cfg=dict(checkpoint='work_dirs/mae_vit-l_800e_in1k/epoch_800.pth')))
