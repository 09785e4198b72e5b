"""Linear probes on kept features: many learning rates at once, chosen by a part of the training set."""
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mae_backbone.evaluation.feature_cache import Features

# Ours, and for batches of 256: 500 images do best near the third, 50,000 in the middle.
LEARNING_RATES = tuple(0.001 * 2 ** i for i in range(12))
RIDGE = 0.01  # ours; directions of less variance than that, of a mean of 1, count less
EPOCHS, WARM_UP = 90, 10  # public MAE code, `main_linprobe.py`
MOMENTUM = 0.9  # the same
_CHUNK = 8192  # rows at a time


class Inputs(NamedTuple):
    """What the heads see of features: a BatchNorm without scale and shift (MAE paper, appendix A.1), decorrelated.

    Mean and deviation are those of all training images: the features do not change, so that what a BatchNorm approaches
    by its running averages is known from the start. Then S, the correlations of the features, are undone by
    (S + RIDGE)^(-1/2). A linear classifier can say the same as before; but where a few directions have most of the
    variance, as in MAE's features, SGD gets to the others in 90 epochs, and not in thousands.
    """

    mean: Tensor    # (D,)
    matrix: Tensor  # (D, D)

    @classmethod
    def of(cls, values: Tensor, rows: Tensor) -> 'Inputs':
        """Of some rows of values (N, D), in float64."""
        chunks = rows.split(_CHUNK)
        mean = sum(values[part].double().sum(dim=0) for part in chunks) / len(rows)
        centerd = (values[part].double() - mean for part in chunks)
        moments = sum(chunk.T @ chunk for chunk in centerd) / len(rows)
        deviation = (moments.diagonal() + 1e-6).sqrt()  # as in `main_linprobe.py` of the public MAE code
        strengths, axes = torch.linalg.eigh(moments / deviation[:, None] / deviation)
        matrix = axes * (strengths.clamp(min=0) + RIDGE).rsqrt() @ axes.T
        return cls(mean.float(), (matrix / deviation[:, None]).float())

    def apply(self, values: Tensor) -> Tensor:
        """values (B, D) -> (B, D) float32."""
        return (values.float() - self.mean) @ self.matrix


class Heads(NamedTuple):
    """K linear classifiers of the same features."""

    inputs: Inputs
    weight: Tensor  # (D, K, classes)
    bias: Tensor    # (K, classes)

    def scores(self, values: Tensor) -> Tensor:
        """values (B, D) -> (B, K, classes)."""
        inputs = self.inputs.apply(values.to(self.weight.device))
        return (inputs @ self.weight.flatten(1)).unflatten(1, self.bias.shape) + self.bias

    def answers(self, values: Tensor) -> Tensor:
        """values (N, D) -> the class (N, K) that each head gives the highest score; a head that is NaN gives 0."""
        return torch.cat([self.scores(chunk).nan_to_num(-math.inf).argmax(dim=2) for chunk in values.split(_CHUNK)])


class Setting(NamedTuple):
    """What one head of a sweep is trained with."""

    lr: float
    weight_decay: float = 0.0


class ProbeResult(NamedTuple):
    """What a probe says of features."""

    accuracy: float                 # percent of the images of the test set
    chosen: Setting
    held_out: dict[Setting, float]  # percent of the held-out images by setting; empty where there was no choice
    answers: Tensor                 # (N,) class of each image of the test set


def linear_probe(train: Features, test: Features, *, lrs: Sequence[float] = LEARNING_RATES,
                 weight_decays: Sequence[float] = (0.0,), held_out: float = 0.1, epochs: int = EPOCHS,
                 batch_size: int = 256, seed: int = 0, classes: int | None = None,
                 device: str | torch.device = 'cpu') -> ProbeResult:
    """A linear classifier of frozen features: how much of the classes lies open in them.

    All settings are tried at once on a part of `train`; the one that does best on the rest of it is trained again on
    all of it. `test` has no part in that. The same seed gives the same numbers.

    Args:
        train, test: with values (N, D).
        lrs, weight_decays: each pair is a setting.
        held_out: share of each class of `train` to choose by, at least one image of a class that has two.
        epochs: through `train`, a ninth of them with a rising learning rate.
        batch_size: at most.
        seed: of the choice of what is held out, of the first weights and of the order of the images.
        classes: their number; None: as many as the labels of `train` tell.
        device: to train on.

    Raises:
        ValueError: what does not fit; a choice between settings where no class has two images.
    """
    settings = [Setting(*pair) for pair in product(lrs, weight_decays)]
    options = {'classes': check_features(train, test, classes, shape=('N', 'D')), 'epochs': epochs,
               'batch_size': batch_size, 'seed': seed, 'device': device}

    def answers(settings: Sequence[Setting], rows: Tensor, values: Tensor) -> Tensor:
        return train_heads(train, settings, rows=rows, **options).answers(values).cpu()

    return chosen_by_held_out(settings, train, test, answers, held_out=held_out, seed=seed)


def chosen_by_held_out(settings: Sequence[Setting], train: Features, test: Features,
                       answers: Callable[[Sequence[Setting], Tensor, Tensor], Tensor], *, held_out: float,
                       seed: int) -> ProbeResult:
    """Tries K settings on a part of `train`; the best on the rest of it learns from all of it and answers `test`.

    Args:
        answers: (settings, rows of `train` to learn from, values (N, ...)) -> (N, K) classes.
        held_out, seed: as in `split_by_class`.
    """
    judged: dict[Setting, float] = {}
    if len(settings) > 1:
        learn, choose = split_by_class(train.labels, held_out, seed)
        found = answers(settings, learn, train.values[choose])
        right = (found == train.labels[choose, None]).double().mean(dim=0)
        judged = dict(zip(settings, (100 * right).tolist(), strict=True))
    chosen = max(settings, key=lambda setting: judged.get(setting, 0.0))
    found = answers([chosen], torch.arange(len(train.labels)), test.values)[:, 0]
    return ProbeResult(100 * float((found == test.labels).double().mean()), chosen, judged, found)


def train_heads(train: Features, settings: Sequence[Setting], *, classes: int, rows: Tensor | None = None,
                epochs: int = EPOCHS, batch_size: int = 256, seed: int = 0,
                device: str | torch.device = 'cpu') -> Heads:
    """Trains a linear classifier for each setting, all of them on the same batches at the same time.

    SGD with momentum, a linear warm-up and half a cosine. Each head is what it would be alone: they share nothing but
    the images. LARS, which the paper has for batches of 16,384, is not needed: the learning rates are searched.

    Args:
        train: with values (N, D).
        settings: K of them.
        rows: of the images to learn from; None: all.
    """
    values, labels = train
    rows = torch.arange(len(labels)) if rows is None else rows
    generator = torch.Generator().manual_seed(seed)
    weight, bias, lrs, decays = _first(values.shape[1], settings, classes, generator, device)
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    heads = Heads(Inputs(*(part.to(device) for part in Inputs.of(values, rows))), weight, bias)
    for rate, batch in steps(rows, epochs, batch_size, generator):
        inputs = heads.inputs.apply(values[batch].to(device, non_blocking=True))
        error = _errors(inputs, heads, labels[batch].to(device))
        velocity.mul_(MOMENTUM).add_((inputs.T @ error.flatten(1)).view_as(weight)).addcmul_(decays, weight)
        bias_velocity.mul_(MOMENTUM).add_(error.sum(dim=0))
        weight.addcmul_(velocity, lrs, value=-rate)
        bias.addcmul_(bias_velocity, lrs[0], value=-rate)
    return heads


def _errors(inputs: Tensor, heads: Heads, labels: Tensor) -> Tensor:
    """inputs (B, D), labels (B,) -> the gradient (B, K, classes) of each head's mean cross-entropy by its scores."""
    error = torch.addmm(heads.bias.flatten(), inputs, heads.weight.flatten(1)).unflatten(1, heads.bias.shape)
    error = error.softmax(dim=2)
    error[torch.arange(len(labels), device=labels.device), :, labels] -= 1
    return error.div_(len(labels))


def _first(width: int, settings: Sequence[Setting], classes: int, generator: torch.Generator,
           device: str | torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same first weights (D, K, classes) and biases (K, classes) for all; learning rates and decays (1, K, 1)."""
    weight = torch.nn.init.trunc_normal_(torch.empty(width, 1, classes), std=0.01, generator=generator)
    lrs, decays = torch.tensor(settings).T.reshape(2, 1, -1, 1).to(device)
    return (weight.repeat(1, len(settings), 1).to(device), torch.zeros(len(settings), classes, device=device), lrs,
            decays)


def steps(rows: Tensor, epochs: int, batch_size: int, generator: torch.Generator) -> Iterator[tuple[float, Tensor]]:
    """The share of the learning rate and the rows of each step. The batches of an epoch are all as large, but for 1."""
    batches = -(-len(rows) // batch_size)
    total, warm = epochs * batches, epochs * batches * WARM_UP // EPOCHS
    for epoch in range(epochs):
        order = rows[torch.randperm(len(rows), generator=generator)]
        for step, batch in enumerate(order.tensor_split(batches), start=epoch * batches):
            yield ((step + 1) / (warm + 1) if step < warm
                   else (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2), batch


def split_by_class(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """labels (N,) -> rows to learn from, and rows to choose by: `share` of each class, or one where it has two.

    Raises:
        ValueError: the share is none, or no class has two images.
    """
    if not 0 < share < 1:
        raise ValueError(f'held_out={share}, wanted a share of the training images in (0, 1), such as .1')
    draw, chosen = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in labels.unique().tolist():
        rows = np.flatnonzero(labels.numpy() == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen[draw.permutation(rows)[:count]] = True
    if not chosen.any():
        raise ValueError('no class has two images, so that none can be held out to choose a learning rate by: give '
                         'one in lrs, or more images')
    chosen = torch.from_numpy(chosen)
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def check_features(train: Features, test: Features, classes: int | None, *, shape: tuple[str, ...]) -> int:
    """The number of classes of a probe; raises ValueError where its features are not of the shape ('N', ...)."""
    values, labels = train
    if values.ndim != len(shape) or labels.shape != values.shape[:1] or len(labels) < 1:
        raise ValueError(f'features are {tuple(values.shape)} with labels {tuple(labels.shape)}, wanted '
                         f'({", ".join(shape)}) and (N,)')
    if test.values.shape[1:] != values.shape[1:]:
        raise ValueError(f'features to learn from are {tuple(values.shape)}, those to judge by '
                         f'{tuple(test.values.shape)}: extract both with the same encoder and pooling')
    classes = classes or int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f'labels are from {labels.min()} to {labels.max()}, wanted 0 to {classes - 1} for {classes} '
                         'classes')
    return classes
