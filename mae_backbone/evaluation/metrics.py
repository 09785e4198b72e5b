"""How often the true class is among the first guesses, and how sure the model is of it."""
import logging
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mae_backbone.registry import METRICS


@METRICS.register_module()
class TopKAccuracy(BaseMetric):
    """Share of the images, in percent, whose true class has one of the k highest scores: `top1`, `top5`, ...

    Takes predictions as `ViTClassifier` gives them, dict(scores=(classes,), label=int). Keeps two integers for each
    image. In the logs the names start with the prefix, `accuracy/top1` if none is set.

    Args:
        topk: the k of interest. One above the number of classes is always reached, and the log says so.
        per_class: also report `class/<name>`, top-1 in percent of the images of a class, and `mean_class`, their mean
            over all classes that occur: the fair number where classes differ in size.
        **kwargs: `prefix`, `collect_device` and `collect_dir` of mmengine's BaseMetric.

    Raises:
        ValueError: a k that is no positive integer.
    """

    default_prefix = 'accuracy'

    def __init__(self, topk: Sequence[int] = (1, 5), *, per_class: bool = False, **kwargs: str | None) -> None:
        super().__init__(**kwargs)
        if not (isinstance(topk, Sequence) and topk and all(isinstance(k, int) and k > 0 for k in topk)):
            raise ValueError(f'topk={topk!r}, wanted positive integers such as (1, 5)')
        self.topk, self.per_class = tuple(topk), per_class
        self._warned = False

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Adds a batch of predictions, each dict(scores=(classes,), label=int).

        Raises:
            ValueError: a label is missing or no class, or a score is NaN.
        """
        scores, labels = _scores_and_labels(data_samples)
        self._note_classes(scores.shape[1])
        self.results.extend(zip(label_ranks(scores, labels).tolist(), labels.tolist(), strict=True))

    def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
        """(rank, label) of every image -> percentages by name. Raises ValueError where there is no image."""
        if not results:
            raise ValueError('no image was evaluated: is the test dataset empty?')
        ranks, labels = np.array(results).T
        metrics = {f'top{k}': 100 * float(np.mean(ranks < k)) for k in self.topk}
        if self.per_class:
            classes = {int(label): 100 * float(np.mean(ranks[labels == label] < 1)) for label in np.unique(labels)}
            metrics['mean_class'] = float(np.mean(list(classes.values())))
            names = (self.dataset_meta or {}).get('classes')
            metrics |= {f'class/{names[label] if names else label}': value for label, value in classes.items()}
        return metrics

    def _note_classes(self, classes: int) -> None:
        if max(self.topk) > classes and not self._warned:
            self._warned = True
            print_log(f'topk={self.topk} of {classes} classes: {classes} guesses are always right, such a top-k is 100',
                      logger='current', level=logging.WARNING)


@METRICS.register_module()
class CrossEntropy(BaseMetric):
    """Mean of -log(score of the true class), in nats: `loss/cross_entropy`, without smoothing or mixing of labels.

    Takes predictions as `ViTClassifier` gives them, dict(scores=(classes,), label=int), the scores being shares of 1.
    """

    default_prefix = 'loss'

    def process(self, data_batch: object, data_samples: Sequence[dict]) -> None:
        """Adds a batch of predictions. Raises ValueError where a label is missing or no class."""
        scores, labels = _scores_and_labels(data_samples)
        check_labels(scores, labels)
        true = scores.gather(1, labels[:, None])[:, 0].double()
        self.results += (-true.clamp(min=torch.finfo(torch.float32).tiny).log()).tolist()

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        """Loss of every image -> their mean."""
        if not results:
            raise ValueError('no image was evaluated: is the test dataset empty?')
        return {'cross_entropy': float(np.mean(results))}


def _scores_and_labels(samples: Sequence[dict]) -> tuple[Tensor, Tensor]:
    """Predictions -> scores (B, classes), labels (B,), on the device of the scores."""
    if any(sample.get('label') is None for sample in samples):
        raise ValueError('a prediction has no true label to compare with: evaluate on a dataset that has labels '
                         '(a folder per class), images without labels can only be predicted')
    scores = torch.stack([sample['scores'] for sample in samples])
    return scores, torch.tensor([int(sample['label']) for sample in samples], device=scores.device)


def check_labels(scores: Tensor, labels: Tensor) -> None:
    """Raises ValueError where one of labels (B,) is no class of scores (B, classes)."""
    if ((labels < 0) | (labels >= scores.shape[1])).any():
        raise ValueError(f'labels from {labels.min()} to {labels.max()}, but scores of the classes 0 to '
                         f'{scores.shape[1] - 1}: set num_classes of the model to the number of classes of the dataset')


def label_ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """scores (B, classes), labels (B,) -> (B,) number of classes that are guessed before the true one.

    Of equal scores the lower class is guessed first, so that scores which say nothing are right as often as chance.

    Raises:
        ValueError: a score is NaN, or a label is no class.
    """
    if scores.isnan().any():
        raise ValueError('a score is NaN: the model has diverged, or overflows in half precision')
    check_labels(scores, labels)
    true = scores.gather(1, labels[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > true) | ((scores == true) & lower)).sum(dim=1)
