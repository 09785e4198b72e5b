"""Attentive probe of ViT-B/16 with MAE weights, ImageNet-1K, 90 epochs: one query attends to all tokens.

Run     mae-backbone train vit-b_attentive_90e_in1k --amp
        on 8 GPUs: torchrun --nproc_per_node 8 -m mae_backbone train CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth, or any other (public MAE files too): --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; your own images in the same layout: --data-root DIR
Costs   slightly more than the linear probe
Expect  no published figure of this recipe. Ours: not measured yet.

The probe is from Context Autoencoder (Chen et al., 2022). AdamW and its constants are ours. Length and augmentation are
as in the linear probe.
"""
_base_ = ['./vit-b_linear_90e_in1k.py']

model = dict(pool='attention')
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
auto_scale_lr = dict(base_batch_size=1024)
