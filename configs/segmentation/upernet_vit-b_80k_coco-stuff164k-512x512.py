"""UPerNet, ViT-B/16 from MAE weights, COCO-Stuff (164,000 images, 171 classes), crops of 512, 80,000 iterations.

Run     mae-backbone train upernet_vit-b_80k_coco-stuff164k-512x512 --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/coco_stuff164k/{images,annotations}/{train2017,val2017}/, label maps NAME_labelTrainIds.png
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Pipeline and iterations are as in mmseg for this set. Model and optimizer are as in our ADE20K recipe.
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/coco-stuff164k-512x512.py',
    '../_base_/schedules/upernet_80k.py',
]

model = dict(decode_head=dict(num_classes=171), auxiliary_head=dict(num_classes=171))
