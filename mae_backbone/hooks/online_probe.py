"""Hook that evaluates the features during pretraining with k-NN and a linear classifier, on labeled images."""
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.runner import Runner
from torch import Tensor

from mae_backbone.evaluation.knn import clamp_ks, knn_predict
from mae_backbone.hooks.feature_monitor import Features, MeasuringHook, extract, spread_out
from mae_backbone.hooks.scalar_history import record
from mae_backbone.registry import DATASETS, HOOKS


@HOOKS.register_module()
class ProbeHook(MeasuringHook):
    """Accuracy of k-NN (as in `mae_backbone.KNNLoop`) and of a linear classifier on the frozen features.

    In a config::

        labeled = dict(type='mae_backbone.ClassFolder', data_root='data/imagenet', train=False)
        custom_hooks = [dict(type='mae_backbone.ProbeHook', train=dict(labeled, split='train'),
                             val=dict(labeled, split='val'))]

    It records `knn/mean`, `knn/class`, `linear/mean` and `linear/class` in percent, for the mean of the patch tokens
    and for the class token. The linear classifier is a fast ridge regression (see `ridge_predict`): it takes a second,
    and its accuracy is lower than with the 90-epoch linear probe of papers. Use both to compare epochs and runs.

    Args:
        train, val: configs of data sets without augmentation, whose items have the class in `data_samples`.
        interval: epochs between two measurements. It also measures at the end, and at the start, which finds faults of
            the data early.
        by_epoch: False to count the interval in iterations.
        images: maximum number of images of `train`, evenly spaced; of `val` half as many.
        k, temperature: number of neighbors and temperature of k-NN. If there are fewer training images than k, their
            number is used instead, and this is logged.
        batch_size: images in a forward pass.
        workers: processes that load the images.

    Raises:
        ValueError: images have no labels, or `val` has a class that `train` lacks.
    """

    def __init__(self, *, train: dict, val: dict, interval: int = 10, by_epoch: bool = True, images: int = 10_000,
                 k: int = 20, temperature: float = 0.07, batch_size: int = 64, workers: int = 4) -> None:
        super().__init__(interval=interval, by_epoch=by_epoch)
        self.configs, self.number = {'train': train, 'val': val}, images
        self.k, self.temperature, self.batch_size, self.workers = k, temperature, batch_size, workers
        self.datasets: dict[str, Any] = {}  # MMEngine's registry is not typed
        self.start_time, self.seconds = 0.0, 0.0

    def before_train(self, runner: Runner) -> None:
        """Opens the data sets."""
        self.datasets = {name: DATASETS.build(config) for name, config in self.configs.items()}
        self.start_time, self.seconds = time.perf_counter(), 0.0
        super().before_train(runner)

    def measure(self, runner: Runner, at: int) -> None:
        """Measures and logs the accuracies and the time that they take."""
        start = time.perf_counter()
        train, val = (self.features(runner, name, count) for name, count in (('train', self.number),
                                                                             ('val', max(1, self.number // 2))))
        (self.k,) = clamp_ks([self.k], len(train.mean))  # which logs it, the first time
        percent = probe(train, val, k=self.k, temperature=self.temperature)
        record(runner, percent, at=at)
        now = time.perf_counter()
        self.seconds += now - start
        line = ', '.join(f'{name} {value:.1f} %' for name, value in percent.items())
        cost = f', {self.seconds / (now - self.start_time):.1%} of the run so far' if at else ''
        runner.logger.info(f'probes: {line}; {len(train.mean)} + {len(val.mean)} images, {now - start:.1f} s{cost}')

    def features(self, runner: Runner, name: str, count: int) -> Features:
        """Features of at most `count` images of a data set."""
        dataset = self.datasets[name]
        features = extract(runner, dataset, spread_out(len(dataset), count), batch_size=self.batch_size,
                           workers=self.workers)
        if features.labels is None:
            raise ValueError(f'ProbeHook.{name}: the images have no classes. Use a data set with classes, such as '
                             'mae_backbone.ClassFolder, or remove the hook')
        return features


def probe(train: Features, val: Features, *, k: int = 20, temperature: float = 0.07) -> dict[str, float]:
    """Training and validation features with labels -> top-1 accuracies in percent by name."""
    assert train.labels is not None
    assert val.labels is not None
    classes = int(train.labels.max()) + 1
    missing = sorted(set(val.labels.tolist()) - set(train.labels.tolist()))
    if missing:
        raise ValueError(f'ProbeHook.val has class {missing[0]}, and ProbeHook.train has no image of it. '
                         'Both need the same classes; raise `images` if too few images are used')
    percent = {}
    for name, features, bank in (('mean', val.mean, train.mean), ('class', val.class_token, train.class_token)):
        knn = knn_predict(features, bank, train.labels, num_classes=classes, k=k, temperature=temperature)
        linear = ridge_predict(features, bank, train.labels, classes=classes)
        for kind, predictions in (('knn', knn), ('linear', linear)):
            percent[f'{kind}/{name}'] = 100 * float((predictions == val.labels).double().mean())
    return percent


# Regularization strengths to try, in units of the number of images; the features have unit variance.
_STRENGTHS = tuple(10.0 ** (i / 2) for i in range(-10, 5))


def ridge_predict(features: Tensor, bank: Tensor, labels: Tensor, *, classes: int,
                  strengths: Sequence[float] = _STRENGTHS) -> Tensor:
    """features (N, D), bank (M, D) with labels (M,) -> classes (N,) predicted by a linear classifier.

    Ridge regression of standardized features onto one-hot classes, in float64. Generalized cross-validation (Golub,
    Heath and Wahba, 1979) chooses the strength: it minimizes the mean squared error over (1 - degrees of freedom /
    M)**2. It has no learning rate, epochs or random numbers.
    """
    bank, features = bank.double(), features.double()
    mean, deviation = bank.mean(dim=0), bank.std(dim=0, correction=0).clamp(min=1e-6)
    bank, features = (bank - mean) / deviation, (features - mean) / deviation
    target = torch.zeros(len(bank), classes, dtype=torch.float64)
    target[torch.arange(len(bank)), labels] = 1
    offset = target.mean(dim=0)
    target -= offset
    energies, axes = torch.linalg.eigh(bank.T @ bank / len(bank))
    energies = energies.clamp(min=0)
    moments = axes.T @ (bank.T @ target) / len(bank)  # (D, classes) along the axes
    total = target.square().sum() / len(bank)

    def error(strength: float) -> float:
        """Generalized cross-validation error, from the moments."""
        shrunk = energies + strength
        gain = (moments.square().sum(dim=1) * (energies + 2 * strength) / shrunk.square()).sum()
        freedom = (1 + (energies / shrunk).sum()) / len(bank)
        return float((total - gain).clamp(min=0) / (1 - freedom).clamp(min=1e-9).square())

    best = min(strengths, key=error)
    weights = axes @ (moments / (energies + best)[:, None])
    return (features @ weights + offset).argmax(dim=1)
