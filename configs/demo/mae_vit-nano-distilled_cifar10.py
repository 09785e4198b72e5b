"""MAE pretraining of a ViT with 0.2 M parameters on CIFAR-10, with a teacher of 1.2 M parameters.

Run     mae-backbone pretrain mae_vit-nano-distilled_cifar10 --data-root cifar10/train
        with attention maps instead of features: --cfg-options model.teacher.type=mae_backbone.AttentionDistillation
Data    cifar10/train/CLASS/*.jpg (50,000 images of 32x32), or any folder of images
        the teacher is a MAE of the config mae_vit-micro_cifar10, in work_dirs/mae_vit-micro_cifar10; with another one:
        --cfg-options model.teacher.checkpoint=FILE, and its size in model.teacher.encoder
Expect  docs/pretraining.md
"""
_base_ = ['./mae_vit-nano_cifar10.py']

model = dict(teacher=dict(
    type='mae_backbone.FeatureDistillation', checkpoint='work_dirs/mae_vit-micro_cifar10/epoch_7.pth',
    encoder=dict(arch=dict(width=128, depth=6, heads=4))))
