"""Fine-tuning of ViT-B/16 from MAE weights, ImageNet-1K, 100 epochs.

Run     python tools/train.py configs/classification/vit-b_100e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Weights work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth; any others, public MAE files among them: --pretrained FILE
Data    data/imagenet/{train,val}/CLASS/*.JPEG; of your own in the same layout: --data-root DIR
Costs   7 h 11 min on 32 V100 (public MAE code, FINETUNE.md)
Expect  83.6 top-1, 83.57 +- .08 over four seeds (public MAE code, FINETUNE.md). Ours: not measured yet.
"""
_base_ = ['../_base_/imagenet_classification.py', '../_base_/runtime.py']

max_epochs = 100
warmup_epochs = 5
lr = 5e-4 * 1024 / 256

model = dict(
    type='mae_backbone.ViTClassifier',
    backbone=dict(
        arch='base', image_size=224, patch_size=16, drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_in1k/epoch_1600.pth')),
    num_classes=1000, pool='mean', label_smoothing=0.1, random_erasing=0.25,
    mixup=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5))
train_dataloader = dict(dataset=dict(augment=dict(auto_augment='rand-m9-mstd0.5-inc1')))

# Public MAE code, main_finetune.py and util/lr_decay.py.
optim_wrapper = dict(
    type='OptimWrapper', optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mae_backbone.LayerDecayConstructor',
    paramwise_cfg=dict(layer_decay=0.65, flat_decay_mult=0.0,
                       custom_keys={'pos_embed': dict(decay_mult=0.0), 'cls_token': dict(decay_mult=0.0)}))
# The lr is for 1,024 images a step: 8 GPUs with 128 each. It is scaled with the batch that you really have.
auto_scale_lr = dict(base_batch_size=1024, enable=True)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    # Down to 1e-6 in the head, and to as small a share in every other layer.
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         eta_min_ratio=1e-6 / lr, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', rule='greater'))
