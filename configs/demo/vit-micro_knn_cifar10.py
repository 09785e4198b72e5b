"""k-nearest-neighbor classification of CIFAR-10 with the features of a 1.2 M parameter ViT, without training.

Run     mae-backbone test vit-micro_knn_cifar10 MAE.pth --data-root cifar10
        with a bank of a fifth of the images, as in docs/benchmarks.md: --cfg-options test_cfg.bank.dataset.fraction=0.2
Data    cifar10/{train,val}/CLASS/*.jpg, or any class folders: the classes are the folders of train
Expect  docs/benchmarks.md

For your own images, replace what was measured on CIFAR-10: mean and std (`mae-backbone measure` prints them) and
image_size.
"""
_base_ = ['../_base_/models/vit-micro_classifier.py', '../_base_/datasets/cifar10.py', '../_base_/runtime_demo.py']

model = dict(num_classes=0)
bank = dict(
    batch_size=256, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mae_backbone.ClassFolder', data_root='data/cifar10', split='train', train=False, image_size=32))
train_dataloader = None
val_dataloader = None
val_cfg = None
val_evaluator = None
test_cfg = dict(type='mae_backbone.KNNLoop', bank=bank, k=20, temperature=0.07)
