"""Batches of pretraining: one array of pixels, into which the images are decoded."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mae_backbone.data.sampler import Draw
from mae_backbone.registry import FUNCTIONS


def empty_pixels(*shape: int, dtype: np.dtype | type = np.uint8) -> Tensor:
    """Uninitialized pixels. In a worker of a DataLoader they are in memory shared with the training process.

    torch's own collate function uses such memory, too. Crops are written into it directly, so that no pixel is copied
    between decoding and the copy to the device (or to pinned memory).
    """
    torch_dtype = getattr(torch, np.dtype(dtype).name)
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch_dtype)
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)) * torch_dtype.itemsize)
    return torch.empty(0, dtype=torch_dtype).set_(storage, 0, shape)  # type: ignore[call-overload]  # the stride is optional


def as_batch(pixels: Tensor, draws: Sequence[Draw], flips: np.ndarray) -> dict[str, Tensor]:
    """pixels (B, H, W, C), draws, flips (B,) bool -> batch for the data preprocessor of the model."""
    return {'inputs': pixels,
            'seeds': torch.tensor([draw.seed for draw in draws], dtype=torch.int64),
            'flips': torch.from_numpy(flips),
            'weights': torch.tensor([draw.weight for draw in draws], dtype=torch.float32)}


@FUNCTIONS.register_module()
def as_is(batch: object) -> object:
    """Collate function of data sets that return whole batches: `collate_fn=dict(type='mae_backbone.as_is')`."""
    return batch
