"""ResNet-18 of torchvision on class folders."""
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.device import get_device
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.models import resnet18

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.image_results import to_text
from mae_backbone.transfer.peers.training import Learner, seed_everything, train_for_minutes
from mae_backbone.transfer.task import TOP1

_SMALL = 64  # pixels up to which a ResNet keeps the resolution of its first layers
_Batch = tuple[Tensor, Tensor]


def small_resnet18(num_classes: int, image_size: int) -> nn.Module:
    """ResNet-18 of torchvision. Small images get the 3x3 stem without pooling of He et al. (2016, section 4.2)."""
    model = resnet18(num_classes=num_classes)
    if image_size <= _SMALL:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model


def train_classifier(spec: Spec, *, clock: Callable[[], float], build: Callable[[int, int], nn.Module] = small_resnet18,
                     image_size: int = 32, batch_size: int = 128, lr: float = 0.1, weight_decay: float = 5e-4,
                     mean: Sequence[float] = (125.3, 123.0, 113.9), std: Sequence[float] = (63.0, 62.1, 66.7)
                     ) -> dict[str, Any]:
    """Trains a classifier by SGD with momentum.

    Args:
        spec: spec of the cell.
        clock: returns the time in seconds.
        build: function (number of classes, image size) -> model that maps images (B, 3, H, W) to logits (B, classes).
        image_size: side of the images in pixels.
        batch_size: images per step.
        lr, weight_decay: learning rate and weight decay of SGD. The defaults are usual for ResNets on CIFAR-10.
        mean, std: mean and standard deviation of the pixels (0 to 255) for each channel. The defaults are for
            CIFAR-10.

    Returns:
        The result of `train_for_minutes`, with the additional key 'correct' (`image_results.to_text`).
    """
    seed_everything(spec['seed'])
    root, device = spec['data_root'], get_device()
    options: dict[str, Any] = {'image_size': image_size, 'reader': spec.get('reader')}
    train = ClassFolder(root, 'train', train=True, fraction=spec['labels'], seed=spec['seed'], **options)
    test = ClassFolder(root, 'val', train=False, **options)
    pixels = (torch.tensor(mean, device=device).reshape(-1, 1, 1), torch.tensor(std, device=device).reshape(-1, 1, 1))
    model = build(len(train.classes), image_size).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    learner = _Classifier(model, optimizer, train, test, pixels, batch_size)
    result = train_for_minutes(learner, spec, clock=clock)
    return result | {'correct': to_text(learner.correct)}


class _Classifier(Learner[_Batch]):
    """A classifier of images.

    Attributes:
        correct: (N,) bool, True for the validation images that were classified correctly in the last validation.
    """

    num_validations = 6

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, train: ClassFolder, test: ClassFolder,
                 pixels: tuple[Tensor, Tensor], batch_size: int) -> None:
        self.model, self.optimizer, self.train, self.test, self.pixels = model, optimizer, train, test, pixels
        self.batch_size = min(batch_size, len(train))
        self.correct = np.empty(0, bool)

    def batches(self) -> Iterator[_Batch]:
        while True:
            yield from DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True, collate_fn=_stack)

    def loss(self, batch: _Batch) -> Tensor:
        images, labels = self._normalized(batch)
        return F.cross_entropy(self.model.train()(images), labels)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        right = []
        for batch in DataLoader(self.test, batch_size=256, collate_fn=_stack):
            images, labels = self._normalized(batch)
            right.append((self.model(images).argmax(dim=1) == labels).cpu())
        self.correct = torch.cat(right).numpy()
        return {TOP1: 100 * float(self.correct.mean())}

    def _normalized(self, batch: _Batch) -> _Batch:
        """images (B, 3, H, W) uint8, labels (B,) -> normalized float32 images and labels on the device."""
        images, labels = batch
        mean, std = self.pixels
        return (images.to(mean.device).float() - mean) / std, labels.to(mean.device)


def _stack(items: Sequence[dict[str, Any]]) -> _Batch:
    return torch.stack([item['inputs'] for item in items]), torch.tensor([item['data_samples'] for item in items])
