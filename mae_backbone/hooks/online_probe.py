"""How well the features tell classes apart while a MAE is pretrained, where some images have labels."""
import time
from collections.abc import Sequence

import torch
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset

from mae_backbone.evaluation.knn import knn_predict
from mae_backbone.hooks.feature_monitor import Features, MeasuringHook, extract, spread_out
from mae_backbone.hooks.scalar_history import note
from mae_backbone.registry import DATASETS, HOOKS


@HOOKS.register_module()
class ProbeHook(MeasuringHook):
    """Nearest neighbors and a linear classifier on the frozen features, as `mae_backbone.KNNLoop` has the former.

    In a config::

        labeled = dict(type='mae_backbone.ClassFolder', data_root='data/imagenet', train=False)
        custom_hooks = [dict(type='mae_backbone.ProbeHook', train=dict(labeled, split='train'),
                             val=dict(labeled, split='val'))]

    The curves are `knn/mean`, `knn/class`, `linear/mean` and `linear/class`, in percent: of the mean of the patch
    tokens, and of the class token. The linear classifier has a closed form (see `ridge_predict`): it costs a second,
    and lies below the probe of 90 epochs that papers report. Both are for comparing epochs and runs.

    Args:
        train, val: configs of data sets whose items have a class in `data_samples`, without augmentation.
        interval: epochs between two measurements; also at the start, which tests the data before the hours, and the
            end.
        by_epoch: False counts the interval in iterations.
        images: at most that many of `train`, evenly drawn, and half as many of `val`.
        k, temperature: of the nearest neighbors.
        batch_size: images in a forward pass.
        workers: processes that load the images.

    Raises:
        ValueError: images without labels, or a class of `val` above all of those of `train`.
    """

    def __init__(self, *, train: dict, val: dict, interval: int = 10, by_epoch: bool = True, images: int = 10_000,
                 k: int = 20, temperature: float = 0.07, batch_size: int = 64, workers: int = 4) -> None:
        super().__init__(interval=interval, by_epoch=by_epoch)
        self.configs, self.number = {'train': train, 'val': val}, images
        self.k, self.temperature, self.batch_size, self.workers = k, temperature, batch_size, workers
        self.sets: dict[str, Dataset] = {}
        self.began, self.cost = 0.0, 0.0

    def before_train(self, runner: Runner) -> None:
        """Opens the data sets."""
        self.sets = {name: DATASETS.build(config) for name, config in self.configs.items()}
        self.began, self.cost = time.perf_counter(), 0.0
        super().before_train(runner)

    def measure(self, runner: Runner, at: int) -> None:
        """Measures and logs, and says what it costs."""
        start = time.perf_counter()
        train, val = (self.features(runner, name, count) for name, count in (('train', self.number),
                                                                             ('val', max(1, self.number // 2))))
        percent = probe(train, val, k=min(self.k, len(train.mean)), temperature=self.temperature)
        note(runner, percent, at=at)
        now = time.perf_counter()
        self.cost += now - start
        line = ', '.join(f'{name} {value:.1f} %' for name, value in percent.items())
        share = f', {self.cost / (now - self.began):.1%} of the run so far' if at else ''
        runner.logger.info(f'probes: {line}; {len(train.mean)} + {len(val.mean)} images, {now - start:.1f} s{share}')

    def features(self, runner: Runner, name: str, count: int) -> Features:
        """Of at most `count` images of one of the data sets."""
        dataset = self.sets[name]
        found = extract(runner, dataset, spread_out(len(dataset), count), batch_size=self.batch_size,
                        workers=self.workers)
        if found.labels is None:
            raise ValueError(f'ProbeHook.{name}: the images have no classes; give a data set with a folder for each, '
                             'such as mae_backbone.ClassFolder, or leave the hook out')
        return found


def probe(train: Features, val: Features, *, k: int = 20, temperature: float = 0.07) -> dict[str, float]:
    """Labeled features to learn from and to judge by -> percent of right answers by name."""
    classes = int(train.labels.max()) + 1
    if int(val.labels.max()) >= classes:
        raise ValueError(f'ProbeHook.val has the class {int(val.labels.max())}, of which ProbeHook.train has no image: '
                         'both need the same classes; raise `images` where too few are drawn')
    percent = {}
    for name, features, bank in (('mean', val.mean, train.mean), ('class', val.class_token, train.class_token)):
        knn = knn_predict(features, bank, train.labels, num_classes=classes, k=k, temperature=temperature)
        linear = ridge_predict(features, bank, train.labels, classes=classes)
        for kind, answers in (('knn', knn), ('linear', linear)):
            percent[f'{kind}/{name}'] = 100 * float((answers == val.labels).double().mean())
    return percent


# Strengths that are tried, as multiples of the number of images: the features have unit variance.
_STRENGTHS = tuple(10.0 ** (i / 2) for i in range(-10, 5))


def ridge_predict(features: Tensor, bank: Tensor, labels: Tensor, *, classes: int,
                  strengths: Sequence[float] = _STRENGTHS) -> Tensor:
    """features (N, D), bank (M, D) of labels (M,) -> (N,) classes, by a linear classifier learned from the bank.

    Ridge regression of standardised features onto one-hot classes, in float64, whose strength is chosen by generalised
    cross-validation (Golub, Heath and Wahba, 1979): the mean squared error over (1 - degrees of freedom / M)**2. No
    step size, no epochs, no random numbers.
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
    found = axes.T @ (bank.T @ target) / len(bank)  # (D, classes) along the axes
    total = target.square().sum() / len(bank)

    def error(strength: float) -> float:
        """Generalised cross-validation error, all from the moments."""
        shrunk = energies + strength
        gain = (found.square().sum(dim=1) * (energies + 2 * strength) / shrunk.square()).sum()
        freedom = (1 + (energies / shrunk).sum()) / len(bank)
        return float((total - gain).clamp(min=0) / (1 - freedom).clamp(min=1e-9).square())

    best = min(strengths, key=error)
    weights = axes @ (found / (energies + best)[:, None])
    return (features @ weights + offset).argmax(dim=1)
