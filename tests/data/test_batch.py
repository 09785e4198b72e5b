"""Batches are in shared memory and are not collated again."""
import numpy as np
import torch
from mmengine.registry import FUNCTIONS
from torch.utils.data import DataLoader, Dataset

from mae_backbone.data.batch import as_batch, as_is, empty_pixels
from mae_backbone.data.sampler import Draw


class Pixels(Dataset):
    def __getitem__(self, dtype: type) -> torch.Tensor:
        pixels = empty_pixels(2, 3, 4, 5, dtype=dtype)
        pixels.numpy()[:] = np.iinfo(dtype).max
        return pixels


def test_workers_allocate_pixels_in_shared_memory():
    for workers in (0, 1):
        for pixels, dtype in zip(DataLoader(Pixels(), None, sampler=[np.uint8, np.uint16], num_workers=workers),
                                 (torch.uint8, torch.uint16), strict=True):
            assert pixels.shape == (2, 3, 4, 5)
            assert pixels.dtype == dtype
            assert pixels.is_contiguous()
            assert pixels.is_shared() == bool(workers)
            assert (pixels.numpy() == torch.iinfo(dtype).max).all()


def test_batch_follows_the_draws():
    pixels = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    batch = as_batch(pixels, [Draw(5, 2**63 - 1), Draw(6, 0, 0.5)], np.array([True, False]))
    assert batch['inputs'] is pixels
    assert batch['seeds'].tolist() == [2**63 - 1, 0]
    assert batch['flips'].tolist() == [True, False]
    assert batch['weights'].tolist() == [1, 0.5]


def test_config_finds_the_collate_function():
    batch = object()
    assert FUNCTIONS.get('mae_backbone.as_is')(batch) is batch
    assert as_is(batch) is batch
