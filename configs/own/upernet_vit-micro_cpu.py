"""UPerNet on a 1.2 M parameter ViT, your own label maps in crops of 192 pixels, for a CPU.

Run     mae-backbone train upernet_vit-micro_cpu --data-root DIR --pretrained MAE.pth
Data    images/{training,validation}/*.jpg, annotations/{training,validation}/*.png with labels 0, 1, ... and 255 for
        unlabeled pixels, classes.txt with one name per line
Expect  no published figure. Ours: not measured yet.

MAE.pth is a checkpoint of mae_vit-micro_cpu on your images.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/upernet_vit-micro.py',
    '../_base_/datasets/camvid.py',
    '../_base_/schedules/micro-segmentation_500i.py',
]

data_root = 'data/own'

# `mae-backbone train` replaces number and names of the classes with the classes of classes.txt.
metainfo = dict(classes=('sky', 'road', 'sign'), palette=[(0, 0, 0), (0, 130, 180), (220, 20, 60)])
model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    decode_head=dict(num_classes=3))
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=1e-3))  # the best of three, docs/benchmarks.md#planned-recipes
