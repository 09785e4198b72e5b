"""UPerNet, ViT-H/16 from MAE weights, ADE20K, crops of 512, 160,000 iterations.

Run     mae-backbone train upernet_vit-h_160k_ade20k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-h_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (150 classes)
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Ours, because the paper has no segmentation with this size: learning rate and layer decay are as in our ViT-L recipe,
drop path is as in MAE's fine-tuning (table 9), output blocks are at the same relative depths. Patches have 14 pixels
in pretraining and 16 here: patch and position embeddings are resized on loading.
"""
_base_ = [
    '../_base_/models/upernet_vit-h.py',
    '../_base_/datasets/ade20k-512x512.py',
    '../_base_/schedules/upernet_160k.py',
]

optim_wrapper = dict(optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay=0.95))
