"""Linear probe on cached features: trains many learning rates at once, and selects one on held-out training images."""
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mae_backbone.evaluation.feature_cache import Features

# Our choice for batches of 256: the third rate is best for 500 images, the middle rates for 50,000.
LEARNING_RATES = tuple(0.001 * 2 ** i for i in range(12))
RIDGE = 0.01  # our choice: directions whose variance is below it, with a mean variance of 1, count less
EPOCHS, WARM_UP = 90, 10  # public MAE code, `main_linprobe.py`
MOMENTUM = 0.9  # the same
_CHUNK = 8192  # rows at a time


class DecorrelatedNorm(NamedTuple):
    """BatchNorm without scale and shift (MAE paper, appendix A.1), followed by decorrelation.

    Mean and standard deviation are computed once over all training images instead of as running averages, since
    features of a frozen encoder do not change. Then S, the correlation matrix, is undone by
    (S + RIDGE)^(-1/2). A linear classifier can express the same functions as before. But if a few directions hold most
    of the variance, as in MAE's features, SGD reaches the others within 90 epochs instead of thousands.
    """

    mean: Tensor    # (D,)
    matrix: Tensor  # (D, D)

    @classmethod
    def fit(cls, values: Tensor, rows: Tensor) -> 'DecorrelatedNorm':
        """Computes the statistics of some rows of values (N, D), in float64."""
        chunks = rows.split(_CHUNK)
        mean = torch.zeros(values.shape[1], dtype=torch.float64)
        for chunk in chunks:
            mean += values[chunk].double().sum(dim=0)
        mean /= len(rows)
        moments = torch.zeros(len(mean), len(mean), dtype=torch.float64)
        for chunk in chunks:
            centered = values[chunk].double() - mean
            moments += centered.T @ centered
        moments /= len(rows)
        deviation = (moments.diagonal() + 1e-6).sqrt()  # as in `main_linprobe.py` of the public MAE code
        eigenvalues, axes = torch.linalg.eigh(moments / deviation[:, None] / deviation)
        matrix = axes * (eigenvalues.clamp(min=0) + RIDGE).rsqrt() @ axes.T
        return cls(mean.float(), (matrix / deviation[:, None]).float())

    def apply(self, values: Tensor) -> Tensor:
        """values (B, D) -> (B, D) float32."""
        return (values.float() - self.mean) @ self.matrix


class Heads(NamedTuple):
    """K linear classifiers on the same features."""

    norm: DecorrelatedNorm
    weight: Tensor  # (D, K, num_classes)
    bias: Tensor    # (K, num_classes)

    def scores(self, values: Tensor) -> Tensor:
        """values (B, D) -> (B, K, num_classes)."""
        inputs = self.norm.apply(values.to(self.weight.device))
        return (inputs @ self.weight.flatten(1)).unflatten(1, self.bias.shape) + self.bias

    def predict(self, values: Tensor) -> Tensor:
        """values (N, D) -> the class (N, K) with the highest score of each head; a head of NaN predicts class 0."""
        return torch.cat([self.scores(chunk).nan_to_num(-math.inf).argmax(dim=2) for chunk in values.split(_CHUNK)])


class Setting(NamedTuple):
    """Hyperparameters of one head of a sweep."""

    lr: float
    weight_decay: float = 0.0


class ProbeResult(NamedTuple):
    """Result of a probe on a test set."""

    accuracy: float                 # percent of the images of the test set
    chosen: Setting
    held_out: dict[Setting, float]  # percent of the held-out images by setting; empty if there was one setting only
    predictions: Tensor             # (N,) class of each image of the test set


# (settings, rows of the training set to learn from, values (N, ...)) -> predicted classes (N, K), one column a setting.
TrainAndPredict = Callable[[Sequence[Setting], Tensor, Tensor], Tensor]


def linear_probe(train: Features, test: Features, *, lrs: Sequence[float] = LEARNING_RATES,
                 weight_decays: Sequence[float] = (0.0,), held_out: float = 0.1, epochs: int = EPOCHS,
                 batch_size: int = 256, seed: int = 0, num_classes: int | None = None,
                 device: str | torch.device = 'cpu') -> ProbeResult:
    """Trains a linear classifier on frozen features, and tests it.

    All settings are trained at once on a part of `train`. The one that does best on the rest of `train` is trained
    again on all of it. `test` does not influence the selection. The same seed gives the same numbers.

    Args:
        train, test: with values (N, D).
        lrs, weight_decays: each pair of them is a setting.
        held_out: fraction of each class of `train` that settings are selected on, at least one image of a class that
            has two.
        epochs: passes through `train`; the learning rate rises in the first ninth of them.
        batch_size: largest number of images in a step.
        seed: of the held-out images, the initial weights and the order of the images.
        num_classes: None: one more than the highest label of `train`.
        device: to train on.

    Raises:
        ValueError: features or labels that do not fit, or several settings and no class with two images.
    """
    settings = [Setting(*pair) for pair in product(lrs, weight_decays)]
    count = check_features(train, test, num_classes, shape=('N', 'D'))

    def train_and_predict(settings: Sequence[Setting], rows: Tensor, values: Tensor) -> Tensor:
        heads = train_heads(train, settings, num_classes=count, rows=rows, epochs=epochs, batch_size=batch_size,
                            seed=seed, device=device)
        return heads.predict(values).cpu()

    return evaluate_best_setting(settings, train, test, train_and_predict, held_out=held_out, seed=seed)


def evaluate_best_setting(settings: Sequence[Setting], train: Features, test: Features,
                          train_and_predict: TrainAndPredict, *, held_out: float, seed: int) -> ProbeResult:
    """Selects the best of K settings on held-out images, trains it on all of `train`, and tests it.

    Args:
        held_out, seed: as in `split_by_class`.
    """
    accuracies: dict[Setting, float] = {}
    if len(settings) > 1:
        learn, select = split_by_class(train.labels, held_out, seed)
        correct = train_and_predict(settings, learn, train.values[select]) == train.labels[select, None]
        accuracies = dict(zip(settings, (100 * correct.double().mean(dim=0)).tolist(), strict=True))
    chosen = max(settings, key=lambda setting: accuracies.get(setting, 0.0))
    predictions = train_and_predict([chosen], torch.arange(len(train.labels)), test.values)[:, 0]
    accuracy = 100 * float((predictions == test.labels).double().mean())
    return ProbeResult(accuracy, chosen, accuracies, predictions)


def train_heads(train: Features, settings: Sequence[Setting], *, num_classes: int, rows: Tensor | None = None,
                epochs: int = EPOCHS, batch_size: int = 256, seed: int = 0,
                device: str | torch.device = 'cpu') -> Heads:
    """Trains a linear classifier for each setting, all of them on the same batches at the same time.

    SGD with momentum, a linear warm-up and half a cosine. The heads share only the images: each equals a head that
    is trained separately. LARS, which the paper uses for batches of 16,384, is not needed because the learning
    rates are searched.

    Args:
        train: with values (N, D).
        settings: K of them.
        rows: indices of the images to learn from; None: all.
    """
    values, labels = train
    rows = torch.arange(len(labels)) if rows is None else rows
    generator = torch.Generator().manual_seed(seed)
    weight, bias, lrs, decays = _initialize(values.shape[1], settings, num_classes, generator, device)
    velocity, bias_velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    heads = Heads(DecorrelatedNorm(*(tensor.to(device) for tensor in DecorrelatedNorm.fit(values, rows))), weight, bias)
    for lr_factor, batch in iterate_batches(rows, epochs, batch_size, generator):
        inputs = heads.norm.apply(values[batch].to(device, non_blocking=True))
        gradient = _score_gradient(inputs, heads, labels[batch].to(device))
        velocity.mul_(MOMENTUM).add_((inputs.T @ gradient.flatten(1)).view_as(weight)).addcmul_(decays, weight)
        bias_velocity.mul_(MOMENTUM).add_(gradient.sum(dim=0))
        weight.addcmul_(velocity, lrs, value=-lr_factor)
        bias.addcmul_(bias_velocity, lrs[0], value=-lr_factor)
    return heads


def _score_gradient(inputs: Tensor, heads: Heads, labels: Tensor) -> Tensor:
    """inputs (B, D), labels (B,) -> gradient (B, K, num_classes) of each head's mean cross-entropy by its scores."""
    scores = torch.addmm(heads.bias.flatten(), inputs, heads.weight.flatten(1)).unflatten(1, heads.bias.shape)
    gradient = scores.softmax(dim=2)
    gradient[torch.arange(len(labels), device=labels.device), :, labels] -= 1
    return gradient.div_(len(labels))


def _initialize(width: int, settings: Sequence[Setting], num_classes: int, generator: torch.Generator,
                device: str | torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights (D, K, num_classes), the same for all heads, biases (K, num_classes), and rates and decays (1, K, 1)."""
    weight = torch.nn.init.trunc_normal_(torch.empty(width, 1, num_classes), std=0.01, generator=generator)
    lrs, decays = torch.tensor(settings).T.reshape(2, 1, -1, 1).to(device)
    return (weight.repeat(1, len(settings), 1).to(device), torch.zeros(len(settings), num_classes, device=device), lrs,
            decays)


def iterate_batches(rows: Tensor, epochs: int, batch_size: int,
                    generator: torch.Generator) -> Iterator[tuple[float, Tensor]]:
    """Yields the factor of the learning rate and the rows of each step. Batches of an epoch differ by one row at most.
    """
    batches = -(-len(rows) // batch_size)
    total, warm = epochs * batches, epochs * batches * WARM_UP // EPOCHS
    for epoch in range(epochs):
        order = rows[torch.randperm(len(rows), generator=generator)]
        for step, batch in enumerate(order.tensor_split(batches), start=epoch * batches):
            yield ((step + 1) / (warm + 1) if step < warm
                   else (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2), batch


def split_by_class(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """labels (N,) -> rows to learn from, and rows to select on: `fraction` of each class, or one if it has two.

    Raises:
        ValueError: the fraction is not in (0, 1), or no class has two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f'held_out={fraction}, expected a fraction of the training images in (0, 1), such as 0.1')
    generator, held_out = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in labels.unique().tolist():
        rows = np.flatnonzero(labels.numpy() == label)
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        held_out[generator.permutation(rows)[:count]] = True
    if not held_out.any():
        raise ValueError('no class has two images, so none can be held out to select a learning rate: give one '
                         'learning rate in lrs, or more images')
    return torch.from_numpy(np.flatnonzero(~held_out)), torch.from_numpy(np.flatnonzero(held_out))


def check_features(train: Features, test: Features, num_classes: int | None, *, shape: tuple[str, ...]) -> int:
    """Returns the number of classes of a probe. Raises ValueError if the features are not of the shape ('N', ...)."""
    values, labels = train
    if values.ndim != len(shape) or labels.shape != values.shape[:1] or len(labels) < 1:
        raise ValueError(f'features are {tuple(values.shape)} with labels {tuple(labels.shape)}, expected '
                         f'({", ".join(shape)}) and (N,)')
    if test.values.shape[1:] != values.shape[1:]:
        raise ValueError(f'training features are {tuple(values.shape)}, test features '
                         f'{tuple(test.values.shape)}: extract both with the same encoder and pooling')
    num_classes = num_classes or int(labels.max()) + 1
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f'labels are from {labels.min()} to {labels.max()}, expected 0 to {num_classes - 1} for '
                         f'{num_classes} classes')
    return num_classes
