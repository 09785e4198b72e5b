"""Probes of frozen features, on class folders."""
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from mmengine.device import get_device
from torch import Tensor

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.evaluation.attentive_probe import attentive_probe
from mae_backbone.evaluation.feature_cache import Features, cached_features
from mae_backbone.evaluation.knn import KS, knn_predictions
from mae_backbone.evaluation.linear_probe import linear_probe
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.transfer.frozen_encoder import build_frozen
from mae_backbone.utils.cpu import threads_per_process


def run_probe(spec: dict, folder: Path) -> dict:
    """A cell on frozen features -> its values in percent, and what was chosen to come to them."""
    options, pooling = dict(spec['options']), 'tokens'
    if spec['probe'] == 'attentive':
        options.setdefault('heads', spec['architecture']['heads'])
    else:
        pooling = options.pop('pooling', 'mean')
    model = build_frozen(spec['architecture'], spec['where']['checkpoint'], seed=spec['weights_seed'])
    train, test = (class_features(model, spec['data_root'], split, spec['image_size'], spec['where']['features'],
                                  pooling=pooling) for split in ('train', 'val'))
    rows = share_of_labels(spec['data_root'], spec['labels'], spec['seed'])
    if rows is not None:
        train = train.select(rows)
    return _PROBES[spec['probe']](train, test, seed=spec['seed'], **options)


def class_features(model: ViTClassifier, data_root: str, split: str, image_size: int, folder: str, *,
                   pooling: str = 'mean') -> Features:
    """Features of all images of a split, kept in `folder`; on a GPU all the processors of this process decode."""
    dataset = ClassFolder(data_root, split, train=False, image_size=image_size)
    # As many as it has threads: of jobs that run side by side each has its share.
    workers = min(threads_per_process(1), torch.get_num_threads()) if get_device() == 'cuda' else 1
    return cached_features(model, dataset, folder, pooling=pooling, workers=workers)


def share_of_labels(data_root: str, share: float, seed: int) -> Tensor | None:
    """Rows of the features of the training set whose labels may be used; None for all.

    They are the images that a training with `--labels SHARE --seed N` has.
    """
    if share == 1:
        return None
    every, part = (ClassFolder(data_root, 'train', train=False, **choice).rows.tolist()
                   for choice in ({}, {'fraction': share, 'seed': seed}))
    place = {row: index for index, row in enumerate(every)}
    return torch.tensor([place[row] for row in part])


def knn(train: Features, test: Features, *, seed: int, k: int = 20, temperature: float = 0.07) -> dict:
    """Nearest neighbors, `k` of them for the table, and DINO's numbers beside; nothing is drawn by `seed`."""
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    k = min(k, len(train.labels))  # of few labels
    answers = knn_predictions(test.values.to(get_device()), train.values, train.labels, num_classes=classes,
                              ks=sorted({k, *(other for other in KS if other <= len(train.labels))}),
                              temperature=temperature)
    top1 = {other: 100 * float((found.cpu() == test.labels).double().mean()) for other, found in answers.items()}
    return {'values': {'top-1': top1[k]}, 'k': k, 'top-1 by k': top1}


def trained(probe: Callable, train: Features, test: Features, *, seed: int, **options: object) -> dict:
    """A probe that is trained, its learning rate chosen on a part of the training images."""
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    found = probe(train, test, seed=seed, num_classes=classes, device=get_device(), **options)
    return {'values': {'top-1': found.accuracy}, 'chosen': found.chosen._asdict()}


_PROBES = {'knn': knn, 'linear': partial(trained, linear_probe), 'attentive': partial(trained, attentive_probe)}
