"""Metrics of a classifier: top-k accuracy, per class if requested, and cross-entropy."""
import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mae_backbone.evaluation.class_table import ClassTable
from mae_backbone.registry import METRICS


def metric_text(value: float) -> str:
    """Writes the value of a metric with 4 digits. COCO's metrics are -1 if no object has their size."""
    return 'no such objects' if value == -1 else f'{value:.4g}'


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Top-k accuracy in percent: `top1`, `top5`, ...

    Takes predictions of `ViTClassifier`, dict(scores=(num_classes,), label=int), and stores two integers per image. The
    names of the metrics start with the prefix, which is 'accuracy' by default: `accuracy/top1`.

    Args:
        topk: values of k. If k is at least the number of classes, the accuracy is 100, and a warning is logged.
        per_class: also report `class/<name>`, the top-1 accuracy of each class, and `mean_class`, their mean over the
            classes that occur. Use `mean_class` if classes differ in size.
        **kwargs: `prefix`, `collect_device` and `collect_dir` of MMEngine's BaseMetric.

    Attributes:
        class_table: images and top-1 accuracy of each class, of the last evaluation.

    Raises:
        ValueError: `topk` is empty or has a value that is not a positive integer.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), *, per_class: bool = False, **kwargs: str | None) -> None:
        super().__init__(**kwargs)
        if not (isinstance(topk, Sequence) and topk and all(isinstance(k, int) and k > 0 for k in topk)):
            raise ValueError(f'topk={topk!r}, expected positive integers such as (1, 5)')
        self.topk, self.per_class = tuple(topk), per_class
        self.class_table: ClassTable = {}
        self._warned = False

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Adds a batch of predictions, each dict(scores=(num_classes,), label=int).

        Raises:
            ValueError: a label is missing or out of range, or a score is NaN.
        """
        scores, labels = _scores_and_labels(data_samples)
        self._note_classes(scores.shape[1])
        self.results.extend(zip(label_ranks(scores, labels).tolist(), labels.tolist(), strict=True))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """(rank, label) of every image -> percentages by name. Raises ValueError if there are no images."""
        if not results:
            raise ValueError('no image was evaluated: is the test dataset empty?')
        ranks, labels = np.array(results).T
        metrics = {f'top{k}': 100 * float(np.mean(ranks < k)) for k in self.topk}
        counts = np.bincount(labels)
        correct = np.bincount(labels[ranks < 1], minlength=len(counts))
        given = (self.dataset_meta or {}).get('classes')
        names = {int(label): str(given[label]) if given else str(label) for label in np.flatnonzero(counts)}
        classes = {label: 100 * float(correct[label] / counts[label]) for label in names}
        self.class_table = {name: {'images': int(counts[label]), 'top1': classes[label]}
                            for label, name in names.items()}
        if self.per_class:
            metrics['mean_class'] = float(np.mean(list(classes.values())))
            metrics |= {f'class/{names[label]}': value for label, value in classes.items()}
        return metrics

    def _note_classes(self, classes: int) -> None:
        if max(self.topk) > classes and not self._warned:
            self._warned = True
            print_log(f'topk={self.topk} of {classes} classes: top-k accuracy is 100 for every k of at least {classes}',
                      logger='current', level=logging.WARNING)


@METRICS.register_module()
class CrossEntropy(BaseMetric):
    """Mean cross-entropy in nats, without label smoothing or mixup: `loss/cross_entropy`.

    Takes predictions of `ViTClassifier`, dict(scores=(num_classes,), label=int). The scores are probabilities.
    """

    default_prefix = 'loss'

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Adds a batch of predictions. Raises ValueError if a label is missing or out of range."""
        scores, labels = _scores_and_labels(data_samples)
        check_labels(scores, labels)
        true = scores.gather(1, labels[:, None])[:, 0].double()
        self.results += (-true.clamp(min=torch.finfo(torch.float32).tiny).log()).tolist()

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Losses of the images -> mean loss. Raises ValueError if there are no images."""
        if not results:
            raise ValueError('no image was evaluated: is the test dataset empty?')
        return {'cross_entropy': float(np.mean(results))}


def _scores_and_labels(samples: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """Predictions -> scores (B, num_classes), labels (B,), on the device of the scores."""
    if any(sample.get('label') is None for sample in samples):
        raise ValueError('a prediction has no true label to compare with: evaluate on a dataset that has labels '
                         '(a folder per class). Images without labels can only be predicted')
    scores = torch.stack([sample['scores'] for sample in samples])
    return scores, torch.tensor([int(sample['label']) for sample in samples], device=scores.device)


def check_labels(scores: Tensor, labels: Tensor) -> None:
    """Raises ValueError if one of the labels (B,) is out of range for the scores (B, num_classes)."""
    if ((labels < 0) | (labels >= scores.shape[1])).any():
        raise ValueError(f'labels from {labels.min()} to {labels.max()}, but scores of the classes 0 to '
                         f'{scores.shape[1] - 1}: set num_classes of the model to the number of classes of the dataset')


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """scores (B, num_classes), labels (B,) -> rank (B,) of the true class, 0 for the highest score.

    Ties are broken by the class index, so that constant scores give the accuracy of chance.

    Raises:
        ValueError: a score is NaN, or a label is out of range.
    """
    if scores.isnan().any():
        raise ValueError('a score is NaN: the model has diverged, or overflows in half precision')
    check_labels(scores, labels)
    true = scores.gather(1, labels[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > true) | ((scores == true) & lower)).sum(dim=1)
