"""The loss of classes for LVIS, which says of an image's classes only some that it surely has or has not."""
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
    """Sigmoid cross entropy over the classes of a batch and some others.

    The others (Zhou et al., Probabilistic two-stage detection, 2021) are drawn without repetition, with a probability
    that grows with the square root of how many images have the class (detectron2, `FastRCNNOutputLayers` with
    use_sigmoid_ce and use_fed_loss). `ClassFrequencyHook` tells it.

    The background has a column of scores that is trained by nothing, as there, for mmdet's heads to leave out.

    Args:
        sampled: how many classes the loss is taken over.
        power: of the number of images of a class, that its probability is proportional to.
        loss_weight: what the loss is multiplied by.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True  # mmdet's heads ask for them

    def __init__(self, sampled: int = 50, *, power: float = 0.5, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.sampled, self.power, self.loss_weight = sampled, power, loss_weight
        self.image_counts: Tensor | None = None  # (classes,), of the training set

    def forward(self, scores: Tensor, labels: Tensor, weight: Tensor | None = None, avg_factor: float | None = None,
                reduction_override: str | None = None) -> Tensor:
        """scores (N, classes + 1), labels (N,), the last of them background -> loss (), a sum over classes.

        Raises:
            ValueError: the frequency of the classes is not known.
        """
        classes = scores.shape[1] - 1
        if self.image_counts is None or len(self.image_counts) != classes:
            raise ValueError(f'FederatedLoss with {classes} classes knows how many images have each of them for '
                             f'{0 if self.image_counts is None else len(self.image_counts)}: add '
                             "custom_hooks = [dict(type='mae_backbone.ClassFrequencyHook')] to the config")
        target = F.one_hot(labels, classes + 1)[:, :-1].to(scores.dtype)
        losses = F.binary_cross_entropy_with_logits(scores[:, :-1], target, reduction='none')
        losses = losses * self.draw(labels, classes)
        if weight is not None:
            losses = losses * weight[:, None]
        return self.loss_weight * losses.sum() / (avg_factor or len(labels))

    def draw(self, labels: Tensor, classes: int) -> Tensor:
        """labels (N,) -> (classes,) bool: those among the labels, filled up to `sampled` by chance."""
        chosen = torch.bincount(labels, minlength=classes + 1)[:classes] > 0
        probability = self.image_counts.to(labels.device, torch.float32) ** self.power * ~chosen
        missing = min(self.sampled - int(chosen.sum()), int(probability.count_nonzero()))
        if missing > 0:
            chosen[torch.multinomial(probability, missing)] = True
        return chosen

    def get_cls_channels(self, num_classes: int) -> int:
        """How many scores a head gives."""
        return num_classes + 1

    def get_activation(self, scores: Tensor) -> Tensor:
        """scores (N, classes + 1) -> probabilities; that of the background is of no meaning."""
        return scores.sigmoid()

    def get_accuracy(self, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """None: without a probability of the background there is none."""
        return {}


@HOOKS.register_module()
class ClassFrequencyHook(Hook):
    """Counts before the training how many images of the training set have each class, for every `FederatedLoss`."""

    def before_train(self, runner: Runner) -> None:
        """Counts, and tells the losses."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        losses = [part for part in model.modules() if isinstance(part, FederatedLoss)]
        if losses:
            counts = images_of_classes(runner.train_dataloader.dataset)
            for loss in losses:
                loss.image_counts = counts


def images_of_classes(dataset: BaseDataset) -> Tensor:
    """How many images of a data set have each class (classes,); oversampling around it does not count."""
    while hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    images = Counter(label for i in range(len(dataset)) for label in set(dataset.get_cat_ids(i)))
    return torch.tensor([images[label] for label in range(len(dataset.metainfo['classes']))])
