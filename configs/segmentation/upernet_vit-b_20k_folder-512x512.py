"""UPerNet, ViT-B/16 from MAE weights, your own label maps, crops of 512, 20,000 iterations.

Run     python tools/train.py configs/segmentation/upernet_vit-b_20k_folder-512x512.py --amp --data-root FOLDER
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    FOLDER/{images,annotations}/{training,validation}/NAME.{jpg,png}, FOLDER/classes.txt; the classes are
        those of that file
Costs   not measured yet
Expect  no published figure. Ours: not measured yet.

Label maps are PNG with the number of a class in each pixel, 255 for none, or with its color, which classes.txt then
names (README, Segmentation). Other suffixes: --cfg-options train_dataloader.dataset.img_suffix=.png, and the same of
val_dataloader and test_dataloader. Where 0 stands for no class: reduce_zero_label=True in the same places.
"""
_base_ = ['../_base_/upernet_vit-b.py', '../_base_/folder_segmentation.py']

max_iters = 20_000
warmup_iters = 1500

model = dict(
    # 3 of many: tools/train.py sets them to the classes of classes.txt.
    decode_head=dict(num_classes=3), auxiliary_head=dict(num_classes=3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=warmup_iters),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=warmup_iters, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters // 10)
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
