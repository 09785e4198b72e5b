"""Activation checkpointing: computes blocks again in the backward pass instead of storing their activations."""
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_every(blocks: Iterable[nn.Module], every: int) -> None:
    """Chooses the blocks to compute again: the first of every k = `every` blocks; 0 for none, 1 for all.

    Not the last of them: the last block would be computed again at the peak, when the backward pass begins.

    Of a block that is computed again only its input is stored. The others store their activations without what is cheap
    to compute again (`recompute_inputs`), which does not work inside of a checkpointed block.

    Raises:
        ValueError: `every` is negative.
    """
    if every < 0:
        raise ValueError(f'checkpointing={every}, expected 0 (none), 1 or True (all blocks), or k for every k-th block')
    for i, block in enumerate(blocks):
        module: Any = block
        module.checkpointed = bool(every) and i % every == 0
        module.recompute = module.attn.recompute = not module.checkpointed


def run_block(block: nn.Module, tokens: Tensor, grid: tuple[int, int] | None = None, *, training: bool,
              **options: Any) -> Tensor:
    """block(tokens, grid, **options), checkpointed in training if `checkpoint_every` chose the block."""
    if training and getattr(block, 'checkpointed', False) and torch.is_grad_enabled():
        return checkpoint(block, tokens, grid, use_reentrant=False, **options)
    return block(tokens, grid, **options)
