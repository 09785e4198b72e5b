"""Masks on the device and on the CPU, bit for bit."""
import torch

from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.core.masking import BlockMasking, GridMasking, RandomMasking, noise_from_seeds


def bit_for_bit(settings: Settings) -> Rows:
    """The same seeds give the same masks on every device."""
    seeds = torch.arange(64 if settings.tiny else 4096)
    for masking in (RandomMasking(), BlockMasking(), GridMasking()):
        for grid in ((14, 14), (9, 13)):
            here, there = (masking(noise_from_seeds(seeds.to(device), grid[0] * grid[1]), grid)
                           for device in (settings.device, 'cpu'))
            yield f'{type(masking).__name__}, {grid[0]} x {grid[1]}', {
                'masks': float(len(seeds)),
                'ok': all(torch.equal(a.cpu(), b) for a, b in zip(here, there, strict=True))}
