"""Selects the device of a model by its name."""
import math

import torch
from mmengine.device import get_device


def select_device(name: str | torch.device | None = None) -> torch.device:
    """Returns the device with a name such as 'cpu' or 'cuda:1'; for None a GPU if there is one, otherwise the CPU.

    Raises:
        ValueError: there is no such device.
    """
    numbers = {'cpu': 1, 'cuda': torch.cuda.device_count(), 'mps': int(torch.backends.mps.is_available())}
    try:
        device = torch.device(name or get_device())
        if (device.index or 0) < numbers.get(device.type, math.inf):
            return device
    except RuntimeError:  # not a name of a device
        pass
    available = ', '.join(f'{kind}:{index}' if kind == 'cuda' else kind
                          for kind, number in numbers.items() for index in range(number))
    raise ValueError(f'device {name} does not exist on this machine: choose one of {available}')
