"""MAE pretraining of ViT-B/16 on images of your own, from public weights, for a GPU with 80 GB.

Run     mae-backbone pretrain mae_vit-b_80gb --data-root DIR --amp
Weights mae_vit_base, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
Data    any folder of images
Expect  no published figure. Ours: not measured yet.

The weights have no decoder: in the first 1,250 iterations only the new decoder is trained.
`mae-backbone plan DIR` writes a config with this base for your data.
"""
_base_ = [
    '../_base_/models/mae_vit-b.py',
    '../_base_/datasets/in1k_unlabeled.py',
    '../_base_/schedules/own-mae.py',
]

model = dict(
    init_cfg=dict(type='Pretrained', checkpoint='mae_vit_base'),
    freeze_encoder_iters=1250)
train_dataloader = dict(batch_size=256, dataset=dict(data_root='data/own'))
optim_wrapper = dict(accumulative_counts=1)
