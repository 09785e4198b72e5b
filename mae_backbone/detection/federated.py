"""Federated loss for LVIS, which annotates only some classes of each image exhaustively."""
from collections import Counter

import torch
import torch.nn.functional as F
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mae_backbone.registry import HOOKS, MODELS


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Sigmoid cross entropy over the classes in a batch and some sampled other classes.

    The other classes are sampled without replacement, with probabilities proportional to a power of the number of
    images that show each class (Zhou et al., Probabilistic two-stage detection, 2021; detectron2's
    `FastRCNNOutputLayers` with use_sigmoid_ce and use_fed_loss). `ClassFrequencyHook` sets these numbers.

    As in detectron2, scores have an untrained column for the background, which mmdet's heads drop.

    Args:
        sampled: number of classes over which the loss is computed.
        power: exponent of the number of images of a class in its sampling probability.
        loss_weight: factor of the loss.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True  # read by mmdet's heads

    def __init__(self, sampled: int = 50, *, power: float = 0.5, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.sampled, self.power, self.loss_weight = sampled, power, loss_weight
        self.image_counts: Tensor | None = None  # (num_classes,) images of the training set that show each class

    def forward(self, scores: Tensor, labels: Tensor, weight: Tensor | None = None, avg_factor: float | None = None,
                reduction_override: str | None = None) -> Tensor:
        """Scores (N, num_classes + 1), labels (N,) with num_classes for background -> loss (), summed over classes.

        Raises:
            ValueError: the class frequencies are not known.
        """
        num_classes = scores.shape[1] - 1
        target = F.one_hot(labels, num_classes + 1)[:, :-1].to(scores.dtype)
        losses = F.binary_cross_entropy_with_logits(scores[:, :-1], target, reduction='none')
        losses = losses * self.draw(labels, num_classes)
        if weight is not None:
            losses = losses * weight[:, None]
        return self.loss_weight * losses.sum() / (avg_factor or len(labels))

    def draw(self, labels: Tensor, num_classes: int) -> Tensor:
        """Labels (N,) -> (num_classes,) bool: the classes among them, filled up to `sampled` with random classes.

        Raises:
            ValueError: the class frequencies are not known.
        """
        counts = self.image_counts
        if counts is None or len(counts) != num_classes:
            raise ValueError(f'FederatedLoss with {num_classes} classes has class frequencies for '
                             f'{0 if counts is None else len(counts)}: add '
                             "custom_hooks = [dict(type='mae_backbone.ClassFrequencyHook')] to the config")
        chosen = torch.bincount(labels, minlength=num_classes + 1)[:num_classes] > 0
        probability = counts.to(labels.device, torch.float32) ** self.power * ~chosen
        missing = min(self.sampled - int(chosen.sum()), int(probability.count_nonzero()))
        if missing > 0:
            chosen[torch.multinomial(probability, missing)] = True
        return chosen

    def get_cls_channels(self, num_classes: int) -> int:
        """Returns the number of scores that a head predicts."""
        return num_classes + 1

    def get_activation(self, scores: Tensor) -> Tensor:
        """Scores (N, num_classes + 1) -> probabilities; the column of the background has no meaning."""
        return scores.sigmoid()

    def get_accuracy(self, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns no accuracy, which is undefined without a probability of the background."""
        return {}


@HOOKS.register_module()
class ClassFrequencyHook(Hook):
    """Counts the images of the training set that show each class, for every `FederatedLoss` of the model."""

    def before_train(self, runner: Runner) -> None:
        """Counts the images and sets `image_counts` of the losses."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = [module for module in model.modules() if isinstance(module, FederatedLoss)]
        if losses:
            counts = count_images_per_class(runner.train_dataloader.dataset)
            for loss in losses:
                loss.image_counts = counts


def count_images_per_class(dataset: BaseDataset) -> Tensor:
    """Counts the images of a data set that show each class: (num_classes,). Wrappers that repeat images are skipped."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    images = Counter(label for i in range(len(dataset)) for label in set(dataset.get_cat_ids(i)))
    return torch.tensor([images[label] for label in range(len(dataset.metainfo['classes']))])
