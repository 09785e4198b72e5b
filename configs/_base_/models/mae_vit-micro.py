"""MAE with an encoder of 6 blocks and a decoder of 2, for the small pretraining runs of configs/demo."""
model = dict(
    type='mae_backbone.MAEPretrainer',
    encoder=dict(arch=dict(width=128, depth=6, heads=4)),
    decoder_width=64, decoder_depth=2, decoder_heads=4,
    data_preprocessor=dict(type='mae_backbone.PixelPreprocessor'))
