"""ViT of 6 blocks with a linear classifier, for 32 x 32 pixels: the small classification runs of configs/demo."""
model = dict(
    type='mae_backbone.ViTClassifier',
    backbone=dict(arch=dict(width=128, depth=6, heads=4), image_size=32, patch_size=4), num_classes=10,
    # Mean and standard deviation of CIFAR-10's training images.
    data_preprocessor=dict(type='ImgDataPreprocessor', mean=[125.3, 123.0, 113.9], std=[63.0, 62.1, 66.7]))
