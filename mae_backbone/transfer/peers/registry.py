"""Training function of each peer by its name.

To add a peer, write its training function in its own file and add its name here and in `suite.py`.
"""
from collections.abc import Callable
from functools import partial
from typing import Any

from mmengine.config import Config

from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.peers.classifier import train_classifier
from mae_backbone.transfer.peers.rcnn import resnet18_faster_rcnn, resnet18_mask_rcnn, train_detector
from mae_backbone.transfer.peers.training import training_clock
from mae_backbone.transfer.peers.unet import check_config, train_segmenter

_TRAIN: dict[str, Callable[..., dict[str, Any]]] = {
    'resnet18': train_classifier, 'unet': train_segmenter, 'mask-rcnn': train_detector,
    'faster-rcnn': partial(train_detector, build=resnet18_faster_rcnn)}
_CHECK: dict[str, Callable[[Config], object]] = {
    'unet': check_config, 'mask-rcnn': partial(resnet18_mask_rcnn, num_classes=1),
    'faster-rcnn': partial(resnet18_faster_rcnn, num_classes=1)}


def check_peer(spec: Spec) -> None:
    """Checks that the config of a cell is one that its peer can take its settings from.

    Raises:
        ValueError: it is the config of another kind of model.
    """
    if spec['peer'] in _CHECK:
        _CHECK[spec['peer']](Config.fromfile(spec['where']['config']))


def train_peer(spec: Spec) -> dict[str, Any]:
    """Trains a peer until it has used its minutes, and returns the result of the cell.

    The minutes are CPU time of the process, or wall-clock time with a GPU, without start and validations. They are
    measured, therefore the number of steps differs slightly from run to run. The learning rate follows a cosine over
    the minutes.

    Args:
        spec: spec of the cell, with 'peer', 'minutes', optionally 'amp', and in 'options' keyword arguments of the
            training function of the peer.
    """
    return _TRAIN[spec['peer']](spec, clock=training_clock(), **spec['options'])
