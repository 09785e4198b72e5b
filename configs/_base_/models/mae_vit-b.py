"""MAE with a ViT-B/16 encoder: the constants of the MAE paper and of the public code (facebookresearch/mae)."""
model = dict(
    type='mae_backbone.MAEPretrainer',
    encoder=dict(arch='base', image_size=224, patch_size=16),          # models_mae.py
    decoder_width=512, decoder_depth=8, decoder_heads=16,              # models_mae.py; paper, tables 1a and 1b
    masking=dict(type='mae_backbone.RandomMasking'), mask_ratio=0.75,  # main_pretrain.py; figure 5, table 1f
    norm_pix=True,                                                     # PRETRAIN.md; table 1d
    # Images arrive as uint8 RGB. ImageNet's mean and standard deviation on that scale: .485 * 255 and so on.
    data_preprocessor=dict(
        type='mae_backbone.PixelPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
