"""Fine-tuning of ViT-B/16 on class folders of your own, for a GPU with 24 GB.

Run     mae-backbone train vit-b_24gb --data-root DIR --amp
Weights mae_vit_base, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    {train,val}/CLASS/*.jpg: the classes are the folders of train
Expect  no published figure. Ours: not measured yet.

`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/vit-b_finetune.py',
    '../_base_/datasets/own-classes.py',
    '../_base_/schedules/own-classification.py',
]

model = dict(backbone=dict(init_cfg=dict(checkpoint='mae_vit_base')))
