"""U-Net of segmentation_models_pytorch on label maps."""
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.structures import PixelData
from torch import Tensor, nn

from mae_backbone.formats.dataset_spec import dicts_in
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.peers.config_data import ConfigData
from mae_backbone.transfer.peers.training import Learner, seed_everything, train_for_minutes

_STRIDE = 32  # stride of the last layer of the encoder. Images are padded to multiples of it
_UNLABELED = 255
_Batch = dict[str, Any]


def resnet18_unet(num_classes: int) -> nn.Module:
    """U-Net with a ResNet-18 as encoder and random weights: images (B, 3, H, W) -> logits (B, classes, H, W).

    Its package is not in the installation; `check_peers` of transfer/run.py checks for it.
    """
    return import_module('segmentation_models_pytorch').Unet('resnet18', encoder_weights=None, classes=num_classes)


def train_segmenter(spec: Spec, *, clock: Callable[[], float], build: Callable[[int], nn.Module] = resnet18_unet,
                    batch_size: int | None = None, lr: float = 1e-3, weight_decay: float = 0.01) -> dict[str, Any]:
    """Trains a segmenter by AdamW, with the crops, the augmentations and the class weights of the config.

    Args:
        spec: spec of the cell, as for `ConfigData`.
        clock: returns the time in seconds.
        build: function (number of classes) -> model that maps images (B, 3, H, W) to logits (B, classes, H, W).
        batch_size: images per step; None for the batch size of the config.
        lr, weight_decay: learning rate and weight decay of AdamW. The defaults are the defaults of PyTorch. The CamVid
            example of segmentation_models_pytorch uses a learning rate of 2e-4, for an encoder pretrained on ImageNet.

    Returns:
        The result of `train_for_minutes`.
    """
    seed_everything(spec['seed'])
    data = ConfigData(spec, batch_size=batch_size)
    model = build(len(data.classes)).to(get_device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    return train_for_minutes(_Segmenter(model, optimizer, data), spec, clock=clock)


def check_config(cfg: Config) -> None:
    """Raises ValueError if a config has no data preprocessor and head of a segmenter, whose settings the U-Net uses."""
    if not (cfg.model.get('decode_head') and cfg.model.get('data_preprocessor')):
        raise ValueError(f'{cfg.filename} is not the config of a segmenter of mmseg, whose data and class weights the '
                         'peer unet uses: choose another task in `compare_to`')


class _Segmenter(Learner[_Batch]):
    """Training of a segmenter by cross-entropy with the class weights of the config.

    The loss is averaged over all pixels, including unlabeled ones, as in mmseg.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, data: ConfigData) -> None:
        self.model, self.optimizer, self.data = model, optimizer, data
        self.preprocessor = data.preprocessor(size=None, size_divisor=_STRIDE, test_cfg=dict(size_divisor=_STRIDE))
        weights = next((loss['class_weight'] for loss in dicts_in(data.cfg.model.get('decode_head'))
                        if loss.get('class_weight')), None)
        self.class_weight = None if weights is None else torch.tensor(weights, device=get_device())

    def batches(self) -> Iterator[_Batch]:
        return self.data.batches()

    def loss(self, batch: _Batch) -> Tensor:
        prepared = self.preprocessor(batch, training=True)
        labels = torch.cat([sample.gt_sem_seg.data for sample in prepared['data_samples']]).long()  # (B, H, W)
        logits = self.model.train()(prepared['inputs']).float()
        # `reduction='mean'` would divide by zero for a batch without labeled pixels.
        return F.cross_entropy(logits, labels, self.class_weight, ignore_index=_UNLABELED, reduction='none').mean()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        for batch in self.data.val:
            prepared = self.preprocessor(batch, training=False)
            samples = prepared['data_samples']
            for sample, logits in zip(samples, self.model(prepared['inputs']), strict=True):
                sample.pred_sem_seg = PixelData(data=_label_map(logits, sample.img_shape, sample.ori_shape))
            self.data.add_predictions(batch, samples)
        return self.data.metrics()


def _label_map(logits: Tensor, shape: tuple[int, int], original_shape: tuple[int, int]) -> Tensor:
    """Logits (classes, H, W) of an image that was padded on the right and below -> labels (1, h, w) of the original."""
    logits = logits[:, :shape[0], :shape[1]]
    if tuple(shape) != tuple(original_shape):
        logits = F.interpolate(logits[None], tuple(original_shape), mode='bilinear', align_corners=False)[0]
    return logits.argmax(dim=0, keepdim=True)
