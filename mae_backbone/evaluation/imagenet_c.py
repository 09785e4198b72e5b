"""Names and normalizers of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), and its mean corruption error."""
from collections.abc import Mapping

STRENGTHS = (1, 2, 3, 4, 5)
# Top-1 error of AlexNet in percent, mean over the five strengths, by which ImageNet-C normalizes: the 15 corruptions of
# the paper, in its order. The authors' code refers to a spreadsheet; these are its numbers as AugMix's code states them
# (google-research/augmix, imagenet.py, ALEXNET_ERR). Rounded to percent they are the first row of table 2 of the paper.
ALEXNET_ERRORS = {
    'gaussian_noise': 88.6428, 'shot_noise': 89.4468, 'impulse_noise': 92.2640,
    'defocus_blur': 81.9880, 'glass_blur': 82.6268, 'motion_blur': 78.5948, 'zoom_blur': 79.8360,
    'snow': 86.6816, 'frost': 82.6572, 'fog': 81.9324, 'brightness': 56.4592,
    'contrast': 85.3204, 'elastic_transform': 64.6056, 'pixelate': 71.7840, 'jpeg_compression': 60.6500,
}
# ImageNet-C provides these for validation. They are not part of its mean.
EXTRA_CORRUPTIONS = ('speckle_noise', 'gaussian_blur', 'spatter', 'saturate')
CORRUPTIONS = (*ALEXNET_ERRORS, *EXTRA_CORRUPTIONS)


def mean_corruption_error(errors: Mapping[str, float]) -> float:
    """mCE in percent: the mean over the 15 corruptions of the error divided by AlexNet's.

    Args:
        errors: top-1 error in percent by corruption, mean over the five strengths; others than the 15 are left out.

    Raises:
        KeyError: one of the 15 corruptions is missing.
    """
    return sum(100 * errors[name] / reference for name, reference in ALEXNET_ERRORS.items()) / len(ALEXNET_ERRORS)
