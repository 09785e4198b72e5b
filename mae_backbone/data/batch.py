"""A batch of pretraining as it travels: one array of pixels, made where the images are decoded."""
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from mae_backbone.data.sampler import Draw
from mae_backbone.registry import FUNCTIONS


def empty_pixels(*shape: int, dtype: np.dtype | type = np.uint8) -> Tensor:
    """Uninitialized pixels; in a worker of a DataLoader in memory that the training process sees too.

    That is where torch's own collating puts a batch. Crops are written into it, so that no pixel is copied between
    decoding and the copy to the device, or to the pinned memory before it.
    """
    dtype = getattr(torch, np.dtype(dtype).name)
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(int(np.prod(shape)) * dtype.itemsize)
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)


def as_batch(pixels: Tensor, draws: Sequence[Draw], flips: np.ndarray) -> dict[str, Tensor]:
    """pixels (B, H, W, C), draws and flips (B,) bool -> what the model's data preprocessor takes."""
    return {'inputs': pixels,
            'seeds': torch.tensor([draw.seed for draw in draws], dtype=torch.int64),
            'flips': torch.from_numpy(flips),
            'weights': torch.tensor([draw.weight for draw in draws], dtype=torch.float32)}


@FUNCTIONS.register_module()
def as_is(batch: object) -> object:
    """Collates nothing: `collate_fn=dict(type='mae_backbone.as_is')` for a data set that makes whole batches."""
    return batch
