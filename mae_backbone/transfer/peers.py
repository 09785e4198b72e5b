"""Peers: common models, trained from scratch for a given CPU time on the same labels and seeds."""
import math
import random
import time
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
from mae_backbone.utils.cpu import cpu_has_bfloat16

NUM_VALIDATIONS = 6
_SMALL = 64  # pixels up to which a ResNet keeps the resolution of its first layers
_Batch = tuple[Tensor, Tensor]


def train_peer(spec: Spec) -> dict[str, Any]:
    """Trains a peer until it has used its minutes, and returns the result of the cell.

    The minutes are CPU time of the process, or wall-clock time with a GPU, without start and validations. They are
    measured, therefore the number of steps differs slightly from run to run. The learning rate follows a cosine over
    the minutes.

    Args:
        spec: spec of the cell, with 'peer', 'minutes', optionally 'amp', and 'options' of `train_classifier`.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    return _TRAIN[spec['peer']](spec, clock=clock, **spec['options'])


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
        build: (number of classes, image size) -> model of logits.
        image_size: side of the images in pixels.
        batch_size: images per step.
        lr, weight_decay: learning rate and weight decay of SGD. The defaults are usual for ResNets on CIFAR-10.
        mean, std: normalization of the pixels, per channel. The default is CIFAR-10's.

    Returns:
        'values', 'cpu_minutes' ('minutes' with a GPU) and 'curves' as for a training, 'steps', and 'correct'.
    """
    random.seed(spec['seed'])
    np.random.seed(spec['seed'])
    torch.manual_seed(spec['seed'])
    root, device = spec['data_root'], get_device()
    train = ClassFolder(root, 'train', train=True, image_size=image_size, fraction=spec['labels'], seed=spec['seed'])
    test = ClassFolder(root, 'val', train=False, image_size=image_size)
    pixels = (torch.tensor(mean, device=device).reshape(-1, 1, 1), torch.tensor(std, device=device).reshape(-1, 1, 1))
    model = build(len(train.classes), image_size).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    budget, used, steps = 60 * spec['minutes'], 0.0, 0
    curve: list[list[float]] = []
    correct = np.empty(0, bool)
    batches = _endless(train, min(batch_size, len(train)))
    in_bfloat16 = spec.get('amp', False) and (device != 'cpu' or cpu_has_bfloat16())
    while used < budget:
        start = clock()
        for group in optimizer.param_groups:
            group['lr'] = lr * 0.5 * (1 + math.cos(math.pi * used / budget))
        images, labels = _normalized(next(batches), pixels, device)
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=in_bfloat16):
            loss = F.cross_entropy(model.train()(images), labels)
        loss.backward()
        optimizer.step()
        steps, used = steps + 1, used + clock() - start
        if used >= budget * (len(curve) + 1) / NUM_VALIDATIONS:
            correct = evaluate(model, test, pixels, device)
            curve.append([steps, round(used / 60, 4), 100 * float(correct.mean())])
            print(f'step {steps}, {used / 60:.2f} of {spec["minutes"]:g} minutes, top-1 {curve[-1][2]:.2f}', flush=True)
    unit = 'minutes' if torch.cuda.is_available() else 'cpu_minutes'
    return {'values': {'top-1': curve[-1][2]}, unit: round(used / 60, 4), 'steps': steps,
            'curves': {'top-1': curve}, 'correct': to_text(correct)}


@torch.no_grad()
def evaluate(model: nn.Module, dataset: ClassFolder, pixels: tuple[Tensor, Tensor], device: str) -> np.ndarray:
    """Returns an array (N,) bool, True for images that the model classifies correctly."""
    model.eval()
    right = []
    for batch in DataLoader(dataset, batch_size=256, collate_fn=_stack):
        images, labels = _normalized(batch, pixels, device)
        right.append((model(images).argmax(dim=1) == labels).cpu())
    return torch.cat(right).numpy()


def _endless(dataset: ClassFolder, batch_size: int) -> Iterator[_Batch]:
    while True:
        yield from DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True, collate_fn=_stack)


def _stack(items: Sequence[dict[str, Any]]) -> _Batch:
    return torch.stack([item['inputs'] for item in items]), torch.tensor([item['data_samples'] for item in items])


def _normalized(batch: _Batch, pixels: tuple[Tensor, Tensor], device: str) -> _Batch:
    """images (B, 3, H, W) uint8, labels (B,) -> normalized float32 images and labels on the device."""
    images, labels = batch
    mean, std = pixels
    return (images.to(device).float() - mean) / std, labels.to(device)


_TRAIN: dict[str, Callable[..., dict[str, Any]]] = {'resnet18': train_classifier}
