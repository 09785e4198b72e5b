"""Features of images from a frozen model: one forward pass, one data loader, one table of poolings."""
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import torch
from mmengine.model import BaseModel, is_model_wrapper
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def token_spread(tokens: Tensor) -> Tensor:
    """tokens (B, L, D) of the patches -> (B,) in 0..1: 0 if all patches of an image are alike, near 1 if none are.

    The square root of the fraction of the tokens' energy that is variance.
    """
    around = tokens - tokens.mean(dim=1, keepdim=True)
    return (around.square().sum(dim=(1, 2)) / tokens.square().sum(dim=(1, 2)).clamp(min=1e-12)).sqrt()


# tokens (B, 1 + L, D), the class token first -> pooled features.
POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    'mean': lambda tokens: tokens[:, 1:].mean(dim=1),
    'class': lambda tokens: tokens[:, 0],
    'spread': lambda tokens: token_spread(tokens[:, 1:]),
    'tokens': lambda tokens: tokens,
}


def extract_features(model: nn.Module, dataset: Dataset, indices: Sequence[int], *, poolings: Sequence[str],
                     batch_size: int, workers: int,
                     dtype: str = 'float32') -> Iterator[tuple[dict[str, Tensor], Tensor | None]]:
    """Yields pooled features of images, batch by batch, in the order of `indices`.

    It draws none of torch's random numbers. The items of the data set may draw some in this process.

    Args:
        model: as in `forward_batch`, in evaluation mode; mode='tokens' gives (B, 1 + L, D) with the class token first.
        dataset: its items are dict(inputs=uint8 (C, H, W)), all of one size, with the class as an int in data_samples
            if they have one.
        indices: images of the data set.
        poolings: names in `POOLINGS`.
        batch_size: images in a forward pass.
        workers: processes that load images.
        dtype: 'float32', or the type to compute in: 'bfloat16' or 'float16'.

    Yields:
        Features by the name of their pooling, (B, ...) float32 on the device of the model, and labels (B,), or None if
        an image has no class.
    """
    device = next(model.parameters()).device
    # A separate generator: without one, a DataLoader draws the seed of its workers from torch's.
    loader = DataLoader(dataset, batch_size, sampler=indices, num_workers=workers, collate_fn=_collate,
                        pin_memory=device.type == 'cuda', generator=torch.Generator().manual_seed(0))
    for batch in loader:
        images = list(batch['inputs'].to(device, non_blocking=True))
        tokens = forward_batch(model, {'inputs': images}, mode='tokens', dtype=dtype).float()
        yield {name: POOLINGS[name](tokens) for name in poolings}, labels_of(batch)


@torch.no_grad()
def forward_batch(model: nn.Module, batch: dict, *, mode: str, dtype: str = 'float32') -> Tensor:
    """Passes one batch of a data loader through a model, without gradients.

    `torch.no_grad` and not `torch.inference_mode`: the model may be in training and keep tensors that it computes here.

    Args:
        model: has a `data_preprocessor`, itself or inside a wrapper such as DistributedDataParallel.
        batch: dict(inputs=B images).
        mode: keyword argument of the model's forward.
        dtype: 'float32', or the type to compute in.
    """
    inner = cast(BaseModel, model.module if is_model_wrapper(model) else model)
    inputs = inner.data_preprocessor({'inputs': batch['inputs']}, False)['inputs']
    device = next(model.parameters()).device
    with torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != 'float32'):
        return model(inputs, mode=mode)


def labels_of(batch: dict) -> Tensor | None:
    """Classes (B,) int64 of a batch, or None if an image has none."""
    samples = batch.get('data_samples')
    if samples is None or any(sample is None for sample in samples):
        return None
    return torch.as_tensor(samples).long()


def _collate(items: Sequence[dict]) -> dict[str, Tensor | list[int | None]]:
    """Stacks the images, so that a worker hands over one tensor instead of B."""
    return {'inputs': torch.stack([item['inputs'] for item in items]),
            'data_samples': [item.get('data_samples') for item in items]}
