"""MAE pretraining of ViT-S/16 on images of your own, from public weights, for a GPU with 8 GB.

Run     mae-backbone pretrain mae_vit-s_8gb --data-root DIR --amp
Weights dino_vits16, if it is on this machine (`mae-backbone models` prints where to get it); or --pretrained FILE
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
    encoder=dict(arch='small'),
    decoder_width=192, decoder_depth=1, decoder_heads=6,
    init_cfg=dict(type='Pretrained', checkpoint='dino_vits16'),
    freeze_encoder_iters=1250)
train_dataloader = dict(dataset=dict(data_root='data/own'))
