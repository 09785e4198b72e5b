"""Fine-tuning of a 1.2 M parameter ViT on CIFAR-10.

Run     mae-backbone train vit-micro_finetune_cifar10 --data-root cifar10 --pretrained MAE.pth
        with a tenth of the labels of each class, as in docs/benchmarks.md: --labels 0.1
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  docs/benchmarks.md

For your own images, replace what was measured on CIFAR-10: mean and std (`mae-backbone measure` prints them) and
image_size.
"""
_base_ = [
    '../_base_/models/vit-micro_classifier.py',
    '../_base_/datasets/cifar10.py',
    '../_base_/schedules/micro-classification_5e.py',
]

model = dict(backbone=dict(drop_path_rate=0.1), label_smoothing=0.1)
