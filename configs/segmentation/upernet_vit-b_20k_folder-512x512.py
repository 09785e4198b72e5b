"""UPerNet, ViT-B/16 from MAE weights, your own label maps, crops of 512, 20,000 iterations.

Run     mae-backbone train upernet_vit-b_20k_folder-512x512 --amp --data-root FOLDER
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp --data-root FOLDER
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    FOLDER/{images,annotations}/{training,validation}/NAME.{jpg,png}, FOLDER/classes.txt with the names of the
        classes
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Label maps are PNG files with the number of a class in each pixel and 255 for unlabeled pixels, or with colors that
classes.txt lists (docs/segmentation.md). For other suffixes: --cfg-options train_dataloader.dataset.img_suffix=.png,
and the same for val_dataloader and test_dataloader. If 0 means unlabeled: reduce_zero_label=True in the same places.
"""
_base_ = [
    '../_base_/models/upernet_vit-b.py',
    '../_base_/datasets/folder-512x512.py',
    '../_base_/schedules/upernet_20k.py',
]

# `mae-backbone train` replaces the 3 with the number of classes in classes.txt.
model = dict(decode_head=dict(num_classes=3), auxiliary_head=dict(num_classes=3))
