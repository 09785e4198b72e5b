"""Numbers that are taken now and then, each with its iteration, in the message hub: checkpoints carry them on."""
import numpy as np
from mmengine.logging import MessageHub
from mmengine.runner import Runner

# Not 'train/...', all of which MMEngine writes into every line of the log.
_VALUE, _AT = 'curve/{}', 'curve_at/{}'


def note(runner: Runner, numbers: dict[str, float], *, at: int) -> None:
    """Keeps numbers after `at` iterations of the run, and sends them to TensorBoard and its like."""
    for name, number in numbers.items():
        runner.message_hub.update_scalar(_VALUE.format(name), float(number))
        runner.message_hub.update_scalar(_AT.format(name), at)
    runner.visualizer.add_scalars(numbers, step=at)


def noted(hub: MessageHub) -> list[str]:
    """Names of all that was noted."""
    prefix = _VALUE.format('')
    return [name.removeprefix(prefix) for name in hub.log_scalars if name.startswith(prefix)]


def curve(hub: MessageHub, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations (N,), counted from 1, and values (N,) of what was noted under `name`; empty where nothing was."""
    if _VALUE.format(name) not in hub.log_scalars:
        return np.empty(0), np.empty(0)
    return hub.get_scalar(_AT.format(name)).data[0], hub.get_scalar(_VALUE.format(name)).data[0]


def step_curve(hub: MessageHub, name: str, last: int) -> tuple[np.ndarray, np.ndarray]:
    """As `curve` for what the hub has of every iteration, such as 'loss', whose latest is of iteration `last`."""
    key = f'train/{name}'
    values = hub.get_scalar(key).data[0] if key in hub.log_scalars else np.empty(0)
    return np.arange(last - len(values) + 1, last + 1), values
