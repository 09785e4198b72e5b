"""Linear probe of a ViT-B/16 that MAE pretrained, ImageNet-1K, 90 epochs.

Run     python tools/train.py configs/classification/vit-b_linear_90e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; of your own in the same layout: --data-root DIR
Crops   as the paper's, 8 to 100 % of the area, and flips; but timm draws anew a box that does not fit into the image,
        which the public code (`util/crop.py`, one draw, as TensorFlow's) cuts off: a quarter of them at 4:3
Costs   2 h 20 min on 32 V100 (public MAE code, FINETUNE.md)
Expect  67.8 top-1 (public MAE code, FINETUNE.md), 68.0 (MAE paper). Ours: not measured yet.
"""
_base_ = ['../_base_/imagenet_classification.py', '../_base_/runtime.py']

max_epochs = 90
warmup_epochs = 10

model = dict(
    type='mae_backbone.ViTClassifier',
    backbone=dict(
        arch='base', image_size=224, patch_size=16,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    num_classes=1000, pool='class', probe=True)
train_dataloader = dict(batch_size=512)  # of a frozen backbone nothing is kept for a backward pass

# Public MAE code, main_linprobe.py and util/lars.py: no decay, and biases are left to plain SGD. timm's Lars adapts
# groups that decay, hence a decay next to none, which flat_decay_mult keeps from the biases.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='timm.optim.Lars', lr=0.1 * 16384 / 256, momentum=0.9, trust_coeff=0.001, weight_decay=1e-12,
                   eps=0.0),
    constructor='mae_backbone.LayerDecayConstructor', paramwise_cfg=dict(flat_decay_mult=0.0))
# The lr is for 16,384 images a step: 32 GPUs with 512 each. It is scaled down with the batch that you really have.
auto_scale_lr = dict(base_batch_size=16384, enable=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
