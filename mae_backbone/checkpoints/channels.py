"""Adapts pretrained patch embeddings, and the predicted pixels of MAE decoders, to another number of channels.

From RGB to n channels, `adapt_input_conv` of timm is used. For other numbers of channels, which timm does not support,
the mean over the channels is used. Both keep the scale of the tokens.
"""
import torch
from torch import Tensor

EMBEDDING_RULE = "timm's rule from RGB, else the mean; the scale of the tokens is kept"
_RGB = 3


def adapt_embedding(weight: Tensor, channels: int) -> Tensor:
    """Adapts the weight of a patch embedding: (D, C, p, p) -> (D, channels, p, p).

    From RGB to 1 channel: the sum over RGB. From RGB to n channels: the weights of RGB are repeated until there are n,
    and multiplied by 3 / n. From C to n channels: each of the n gets the mean over C, multiplied by C / n. An image
    whose channels are all equal then has the same tokens as before.
    """
    C = weight.shape[1]
    if C == channels:
        return weight
    if C == _RGB:
        from timm.models import adapt_input_conv  # imports all models of timm
        return adapt_input_conv(channels, weight)
    return weight.float().mean(1, keepdim=True).mul(C / channels).expand(-1, channels, -1, -1).to(weight.dtype)


def adapt_pixels(values: Tensor, patch_size: int, channels: int) -> Tensor:
    """Adapts the predicted pixels of a patch: (p * p * C, ...) -> (p * p * channels, ...).

    From RGB to n channels: channel j is a copy of channel j % 3. From C to n channels: all are the mean over C.
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
