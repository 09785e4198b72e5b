"""Probes of frozen features on class folders."""
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.evaluation.attentive_probe import attentive_probe
from mae_backbone.evaluation.feature_cache import Features, cached_features
from mae_backbone.evaluation.knn import KS, clamp_ks, knn_predictions
from mae_backbone.evaluation.linear_probe import linear_probe
from mae_backbone.evaluation.whitening import Whitening
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.frozen_encoder import build_frozen
from mae_backbone.transfer.image_results import to_text
from mae_backbone.transfer.task import TOP1
from mae_backbone.utils.cpu import threads_per_process


def run_probe(spec: Spec) -> dict[str, Any]:
    """Runs the probe of a cell. Returns its metrics in percent ('values'), and the settings that it selected."""
    options, pooling = dict(spec['options']), 'tokens'
    if spec['probe'] == 'attentive':
        options.setdefault('heads', spec['architecture']['heads'])
    else:
        own = spec['architecture'].get('timm', {}).get('pooling', 'mean')  # timm states the pooling of its models
        pooling = options.pop('pooling', own)
    reader = spec['architecture'].get('reader')
    model = build_frozen(spec['architecture'], spec['where']['checkpoint'], seed=spec['weights_seed'])
    train, test = (class_features(model, spec['data_root'], split, spec['image_size'], spec['where']['features'],
                                  pooling=pooling, reader=reader) for split in ('train', 'val'))
    rows = labeled_rows(spec['data_root'], spec['labels'], spec['seed'], reader)
    if rows is not None:
        train = train.select(rows)
    return _PROBES[spec['probe']](train, test, seed=spec['seed'], **options)


def class_features(model: ViTClassifier, data_root: str, split: str, image_size: int, folder: str, *,
                   pooling: str = 'mean', reader: dict[str, Any] | None = None) -> Features:
    """Returns the features of all images of a split of class folders.

    Args:
        model: frozen encoder.
        data_root: folder of the data set.
        split: 'train' or 'val'.
        image_size: height and width in pixels to which images are resized and cropped.
        folder: folder of the cache. Features that are already in it are not computed again.
        pooling: pooling of the patch features to the features of an image.
        reader: config of the reader of the images; None for color images.
    """
    dataset = ClassFolder(data_root, split, train=False, image_size=image_size, reader=reader)
    # On a GPU, all CPUs of this job decode images. torch.get_num_threads() is their number.
    workers = min(threads_per_process(1), torch.get_num_threads()) if get_device() == 'cuda' else 1
    return cached_features(model, dataset, folder, pooling=pooling, workers=workers)


def labeled_rows(data_root: str, fraction: float, seed: int, reader: dict[str, Any] | None = None) -> Tensor | None:
    """Returns the indices (N,) of the training images whose labels are used, or None for all images.

    They are the same images as in a training with `--labels FRACTION --seed SEED`.
    """
    if fraction == 1:
        return None
    all_rows = ClassFolder(data_root, 'train', train=False, reader=reader).rows.tolist()
    labeled = ClassFolder(data_root, 'train', train=False, fraction=fraction, seed=seed, reader=reader).rows.tolist()
    position = {row: index for index, row in enumerate(all_rows)}
    return torch.tensor([position[row] for row in labeled])


def knn(train: Features, test: Features, *, seed: int, k: int = 20, temperature: float = 0.07,
        whiten: bool = False) -> dict[str, Any]:
    """Classifies by `k` nearest neighbors, and additionally by the numbers of neighbors that DINO reports.

    Args:
        train, test: features of the training and validation images.
        seed: not used, because k-NN has no random numbers.
        k: number of neighbors.
        temperature: temperature of the weights of the neighbors.
        whiten: whiten the features first, so that all directions of the training features have about the same variance.
            Otherwise neighbors depend mostly on the directions of large variance.
    """
    if whiten:
        whitening = Whitening.of(train.values)
        train, test = (features._replace(values=whitening(features.values)) for features in (train, test))
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    asked, (k,) = k, clamp_ks([k], len(train.labels))
    predictions = knn_predictions(test.values.to(get_device()), train.values, train.labels, num_classes=num_classes,
                                  ks=sorted({k, *(other for other in KS if other <= len(train.labels))}),
                                  temperature=temperature)
    top1 = {k: 100 * float((labels.cpu() == test.labels).double().mean()) for k, labels in predictions.items()}
    notes = [f'k={k} neighbors instead of {asked}: there are no more training images'] if k != asked else []
    return {'values': {TOP1: top1[k]}, 'k': k, 'top-1 by k': top1, 'notes': notes,
            'correct': to_text((predictions[k].cpu() == test.labels).numpy())}


def trained(probe: Callable[..., Any], train: Features, test: Features, *, seed: int, **options: Any) -> dict[str, Any]:
    """Trains a probe. Its learning rate is selected on training images that are held out for this purpose."""
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    result = probe(train, test, seed=seed, num_classes=num_classes, device=get_device(), **options)
    return {'values': {TOP1: result.accuracy}, 'chosen': result.chosen._asdict(),
            'correct': to_text((result.predictions.cpu() == test.labels).numpy())}


_PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    'knn': knn, 'linear': partial(trained, linear_probe), 'attentive': partial(trained, attentive_probe)}
