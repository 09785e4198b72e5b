"""Adapts pretrained patch embeddings and predicted pixels to images with another number of channels.

The rule from RGB to n channels is timm's `adapt_input_conv`. timm has no rule from n channels; there the mean over the
channels is taken. Both keep the scale of the tokens.
"""
import torch
from torch import Tensor

EMBEDDING_RULE = "timm's rule from RGB, else the mean; the scale of the tokens is kept"
_RGB = 3


def adapt_embedding(weight: Tensor, channels: int) -> Tensor:
    """weight (D, C, p, p) of the patch embedding -> (D, channels, p, p).

    RGB to 1 channel: the sum over RGB. RGB to n: RGB repeated and cut to n, times 3 / n. Any C to n: the mean over C in
    each of the n, times C / n, so that an image with equal channels gives the tokens that it gave before.
    """
    C = weight.shape[1]
    if C == channels:
        return weight
    if C == _RGB:
        from timm.models import adapt_input_conv  # imports all models of timm
        return adapt_input_conv(channels, weight)
    return weight.float().mean(1, keepdim=True).mul(C / channels).expand(-1, channels, -1, -1).to(weight.dtype)


def adapt_pixels(values: Tensor, patch_size: int, channels: int) -> Tensor:
    """values (p * p * C, ...) of the predicted pixels of a patch -> (p * p * channels, ...).

    RGB to n: pixel j is pixel j % 3. Any other C to n: each of the n is the mean over C.
    """
    pixels = values.unflatten(0, (patch_size**2, -1))                                   # (p * p, C, ...)
    C = pixels.shape[1]
    if C == channels:
        return values
    if C == _RGB and channels > 1:
        adapted = pixels[:, torch.arange(channels) % C]
    else:
        adapted = pixels.mean(1, keepdim=True).expand(-1, channels, *pixels.shape[2:])
    return adapted.flatten(0, 1)
