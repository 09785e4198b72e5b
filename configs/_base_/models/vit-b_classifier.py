"""ViT-B/16 with a linear classifier of ImageNet-1K's 1,000 classes."""
model = dict(
    type='mae_backbone.ViTClassifier',
    backbone=dict(arch='base', image_size=224, patch_size=16),
    num_classes=1000,
    # Images arrive as uint8 RGB. ImageNet's mean and standard deviation on that scale: .485 * 255 and so on.
    data_preprocessor=dict(
        type='ImgDataPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
