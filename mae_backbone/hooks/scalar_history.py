"""Stores scalars that are measured at intervals, with their iterations, in the message hub, which is in checkpoints."""
from collections.abc import Mapping

import numpy as np
from mmengine.logging import MessageHub
from mmengine.runner import Runner

# Not 'train/...': MMEngine writes all of those into every log line.
_VALUE, _ITERATION = 'curve/{}', 'curve_at/{}'
_METRIC = 'val/'
_OPTIMIZER_SCALARS = ('grad_norm', 'skipped')  # recorded in each step of the optimizer


def record(runner: Runner, scalars: dict[str, float], *, at: int) -> None:
    """Stores scalars measured after `at` iterations, and sends them to TensorBoard and other visualizers."""
    store(runner.message_hub, scalars, at=at)
    runner.visualizer.add_scalars(scalars, step=at)


def store(hub: MessageHub, scalars: dict[str, float], *, at: int) -> None:
    """Stores scalars measured after `at` iterations."""
    for name, value in scalars.items():
        hub.update_scalar(_VALUE.format(name), float(value))
        hub.update_scalar(_ITERATION.format(name), at)


def store_metrics(hub: MessageHub, metrics: Mapping[str, object], *, at: int) -> None:
    """Stores the metrics of a validation after `at` iterations, under names that start with 'val/'."""
    store(hub, {_METRIC + name: float(value) for name, value in metrics.items()
                if isinstance(value, (int, float, np.number))}, at=at)


def metric_names(hub: MessageHub) -> list[str]:
    """Names of all stored metrics of validations, without 'val/'."""
    return [name.removeprefix(_METRIC) for name in recorded_names(hub) if name.startswith(_METRIC)]


def metric_history(hub: MessageHub, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Like `history`, for a metric of the validations."""
    return history(hub, _METRIC + name)


def recorded_names(hub: MessageHub) -> list[str]:
    """Names of all recorded scalars."""
    prefix = _VALUE.format('')
    return [name.removeprefix(prefix) for name in hub.log_scalars if name.startswith(prefix)]


def history(hub: MessageHub, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Iterations (N,), counted from 1, and values (N,) recorded under `name`; empty if there are none."""
    if _VALUE.format(name) not in hub.log_scalars:
        return np.empty(0), np.empty(0)
    return hub.get_scalar(_ITERATION.format(name)).data[0], hub.get_scalar(_VALUE.format(name)).data[0]


def step_history(hub: MessageHub, name: str, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Like `history`, for scalars that the hub has of every iteration, such as 'loss', up to iteration `last`.

    With accumulated gradients, the hub has the scalars of the optimizer, such as 'grad_norm', of every step only. They
    are spread evenly over the iterations of which the hub has the learning rate.
    """
    values = _train_scalars(hub, name)
    iterations = len(_train_scalars(hub, 'lr'))
    if name in _OPTIMIZER_SCALARS and 0 < 2 * len(values) <= iterations + 1:
        return np.linspace(last - iterations, last, len(values) + 1)[1:].round().astype(int), values
    return np.arange(last - len(values) + 1, last + 1), values


def _train_scalars(hub: MessageHub, name: str) -> np.ndarray:
    key = f'train/{name}'
    return hub.get_scalar(key).data[0] if key in hub.log_scalars else np.empty(0)
