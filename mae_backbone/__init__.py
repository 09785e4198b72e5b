"""From a folder of unlabeled images to a detector and a segmenter, on Masked Autoencoders (MAE) and plain ViTs.

One alphabet of shapes for the whole package:

    B images in a batch      L patches of an image       K visible patches of an image
    D width of a token       P = patch_size**2 * C pixels of a patch (C channels)
    H W image in pixels      h w image in patches, L = h * w
"""
from mae_backbone.compat import install_check, mmcv_ops

__version__ = '0.1.0'

install_check.warn_of_clashes()
mmcv_ops.install()  # before mmdet or mmseg is imported: both bind mmcv's ops at import
