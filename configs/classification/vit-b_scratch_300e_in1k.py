"""ViT-B/16 from random weights, ImageNet-1K, 300 epochs: what MAE is compared with.

Run     python tools/train.py configs/classification/vit-b_scratch_300e_in1k.py --amp
        on 8 GPUs: torchrun --nproc_per_node 8 tools/train.py CONFIG --launcher pytorch --amp
Data    data/imagenet/{train,val}/CLASS/*.JPEG; of your own in the same layout: --data-root DIR
Costs   not published
Expect  82.3 top-1 (MAE paper, table 3 and appendix A.2). Ours: not measured yet.
"""
_base_ = ['./vit-b_100e_in1k.py']

max_epochs = 300
warmup_epochs = 20
lr = 1e-4 * 4096 / 256

# MAE paper, table 11, which lists no random erasing.
model = dict(backbone=dict(init_cfg=None), random_erasing=0.0)
# The same; biases and norms do not decay, as in fine-tuning.
optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.95), weight_decay=0.3), paramwise_cfg=dict(layer_decay=1.0))
# The lr is for 4,096 images a step: 32 GPUs with 128 each. It is scaled with the batch that you really have.
auto_scale_lr = dict(base_batch_size=4096)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-9, begin=0, end=warmup_epochs, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
# Averages of the weights, .9999 of the old in each step (table 11): tested with, and saved as the weights.
custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook', momentum=1e-4)]
