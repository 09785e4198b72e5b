"""Mask R-CNN and Faster R-CNN of torchvision on objects in COCO's format."""
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from mae_backbone.prediction.instances import CroppedRLE
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.peers.config_data import ConfigData
from mae_backbone.transfer.peers.training import Learner, seed_everything, train_for_minutes

_STAGES = {f'layer{stage}': str(stage - 1) for stage in (1, 2, 3, 4)}  # of a ResNet -> names in torchvision's pyramid
_WIDTHS = [64, 128, 256, 512]  # channels of these stages in ResNet-18
_STRIDES = (4, 8, 16, 32, 64)  # strides of torchvision's pyramid, with its extra level
_POOLED = 7  # side of the features of a box, as torchvision pools them
_Batch = dict[str, Any]


def resnet18_mask_rcnn(cfg: Config, num_classes: int) -> nn.Module:
    """Mask R-CNN with a feature pyramid on a ResNet-18, with random weights.

    It takes RGB images with values in [0, 1] and does not resize them. The sizes of neck, heads and anchors and the
    numbers of proposals are taken from the config. torchvision's default heads are designed for COCO. With them, a step
    on a CPU takes three to five times as long.

    Args:
        cfg: config of a Mask R-CNN of mmdet.
        num_classes: number of classes without background.

    Raises:
        ValueError: the config is not one of a Mask R-CNN.
    """
    with _reading(cfg, 'Mask R-CNN', 'mask-rcnn'):
        channels, mask = cfg.model.neck.out_channels, cfg.model.roi_head.mask_head
        widths = [mask.conv_out_channels] * mask.num_convs
        body, options = _box_parts(cfg, num_classes)
    model = MaskRCNN(body, mask_head=MaskRCNNHeads(channels, widths, 1),
                     mask_predictor=MaskRCNNPredictor(widths[-1], widths[-1], 1 + num_classes), **options)
    return _adapted(model, cfg)


def resnet18_faster_rcnn(cfg: Config, num_classes: int) -> nn.Module:
    """Faster R-CNN with the parts of `resnet18_mask_rcnn`, without the head of the masks.

    Raises:
        ValueError: the config is not one of a Faster R-CNN, or has masks.
    """
    with _reading(cfg, 'Faster R-CNN', 'faster-rcnn'):
        body, options = _box_parts(cfg, num_classes)
        if cfg.model.roi_head.get('mask_head'):
            raise ValueError(f'{cfg.filename} is the config of a Mask R-CNN: choose the peer mask-rcnn')
    return _adapted(FasterRCNN(body, **options), cfg)


@contextmanager
def _reading(cfg: Config, detector: str, peer: str) -> Iterator[None]:
    """Replaces errors about missing settings by one that names the config."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise ValueError(f'{cfg.filename} is not the config of a {detector} of mmdet ({error}), from which the peer '
                         f'{peer} takes its sizes: choose another task in `compare_to`') from error


def _box_parts(cfg: Config, num_classes: int) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the backbone with its pyramid, and the arguments that Faster R-CNN and Mask R-CNN have in common."""
    model = cfg.model
    channels, fc_channels = model.neck.out_channels, model.roi_head.bbox_head.fc_out_channels
    anchors, sampler = model.rpn_head.anchor_generator, model.train_cfg.rcnn.sampler
    training, testing, limit = model.train_cfg.rpn_proposal, model.test_cfg.rpn, model.test_cfg.rcnn
    sizes = tuple((anchors.scales[0] * stride,) for stride in _STRIDES)
    return BackboneWithFPN(resnet18(weights=None), _STAGES, _WIDTHS, channels), dict(
        rpn_anchor_generator=AnchorGenerator(sizes, (tuple(anchors.ratios),) * len(sizes)),
        rpn_pre_nms_top_n_train=training.nms_pre, rpn_post_nms_top_n_train=training.max_per_img,
        rpn_pre_nms_top_n_test=testing.nms_pre, rpn_post_nms_top_n_test=testing.max_per_img,
        box_batch_size_per_image=sampler.num, box_detections_per_img=limit.max_per_img,
        box_head=TwoMLPHead(channels * _POOLED**2, fc_channels),
        box_predictor=FastRCNNPredictor(fc_channels, 1 + num_classes))


def _adapted(model: FasterRCNN, cfg: Config) -> FasterRCNN:
    """Keeps the size of images, and keeps boxes in float32 under autocast.

    torchvision computes anchors in the type of the features, and boxes in the type of their offsets. In bfloat16, boxes
    are rounded to up to a pixel, and the loss of a box without an area is NaN.
    """
    pixels = cfg.model.data_preprocessor
    model.transform = _KeepSize(0, 0, [value / 255 for value in pixels.mean], [value / 255 for value in pixels.std])
    for part in (model.backbone, model.rpn.head, model.roi_heads.box_predictor):
        part.register_forward_hook(lambda _, inputs, outputs: _to_float32(outputs))
    return model


def _to_float32(outputs: Any) -> Any:
    """Converts a tensor, or the tensors of a dict, list or tuple."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    if isinstance(outputs, Mapping):
        return {name: value.float() for name, value in outputs.items()}
    return tuple(map(_to_float32, outputs))


class _KeepSize(GeneralizedRCNNTransform):
    """Normalizes and stacks images without resizing them, and returns masks (N, 1, 28, 28) as they are predicted."""

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], image_shapes: list[tuple[int, int]],
                    original_image_sizes: list[tuple[int, int]]) -> list[dict[str, Tensor]]:
        return result


def train_detector(spec: Spec, *, clock: Callable[[], float],
                   build: Callable[[Config, int], nn.Module] = resnet18_mask_rcnn, batch_size: int | None = None,
                   lr: float = 0.005, weight_decay: float = 1e-4, warmup: float = 0.05) -> dict[str, Any]:
    """Trains a detector by SGD with momentum, on the crops and with the augmentations of the config.

    Args:
        spec: spec of the cell, as for `ConfigData`.
        clock: returns the time in seconds.
        build: (config, number of classes) -> model with the interface of torchvision's detectors, whose masks, if it
            has them, are not pasted into the images.
        batch_size: images per step; None for the batch size of the config.
        lr, weight_decay: learning rate and weight decay of SGD. torchvision's references/detection uses a learning rate
            of 0.02 for 16 images per step. The default is this value scaled to the 4 images per step of our configs.
        warmup: fraction of the minutes in which the learning rate rises.

    Returns:
        The result of `train_for_minutes`.
    """
    seed_everything(spec['seed'])
    data = ConfigData(spec, batch_size=batch_size)
    model = build(data.cfg, len(data.classes)).to(get_device())
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay)
    return train_for_minutes(_Detector(model, optimizer, data, warmup), spec, clock=clock)


class _Detector(Learner[_Batch]):
    """Training of a model with the interface of torchvision's detectors."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, data: ConfigData, warmup: float) -> None:
        self.model, self.optimizer, self.data, self.warmup = model, optimizer, data, warmup
        self.device, self.to_rgb = get_device(), data.cfg.model.data_preprocessor.get('bgr_to_rgb', False)

    def batches(self) -> Iterator[_Batch]:
        return self.data.batches()

    def loss(self, batch: _Batch) -> Tensor:
        targets = [self._target(sample.gt_instances) for sample in batch['data_samples']]
        losses: dict[str, Tensor] = self.model.train()(self._images(batch), targets)
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        for batch in self.data.val:
            samples = batch['data_samples']
            for sample, objects in zip(samples, self.model(self._images(batch)), strict=True):
                sample.pred_instances = _instances(objects, sample.ori_shape, sample.get('scale_factor', (1.0, 1.0)))
            self.data.add_predictions(batch, samples)
        return self.data.metrics()

    def _images(self, batch: _Batch) -> list[Tensor]:
        """Images (3, H, W) uint8 of a batch -> RGB in [0, 1] on the device."""
        images = [image.to(self.device).float() / 255 for image in batch['inputs']]
        return [image[[2, 1, 0]] for image in images] if self.to_rgb else images

    def _target(self, objects: InstanceData) -> dict[str, Tensor]:
        boxes = getattr(objects.bboxes, 'tensor', objects.bboxes)  # boxes of mmdet have their tensor in an attribute
        # torchvision refuses boxes without an area.
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        target = {'boxes': boxes, 'labels': objects.labels + 1}
        if 'masks' in objects:
            target['masks'] = objects.masks.to_tensor(torch.uint8, 'cpu')
        return {name: values[kept].to(self.device) for name, values in target.items()}


def _instances(objects: dict[str, Tensor], shape: tuple[int, int], scale_factor: Sequence[float]) -> InstanceData:
    """Converts predictions of torchvision to mmdet's `InstanceData`, with masks as run lengths in the original image.

    Args:
        objects: boxes (N, 4), labels (N,) from 1, scores (N,), and of a Mask R-CNN masks (N, 1, 28, 28) of
            probabilities inside the boxes.
        shape: height and width of the original image.
        scale_factor: factors (x, y) by which the image was resized.
    """
    boxes = (objects['boxes'] / objects['boxes'].new_tensor([*scale_factor, *scale_factor])).cpu()
    found = InstanceData(bboxes=boxes, scores=objects['scores'].cpu(), labels=objects['labels'].cpu() - 1)
    if 'masks' in objects:
        found.masks = [_run_lengths(mask, box, shape) for mask, box in zip(objects['masks'].cpu(), boxes, strict=True)]
    return found


def _run_lengths(mask: Tensor, box: Tensor, shape: tuple[int, int]) -> dict[str, Any]:
    """Converts a mask of probabilities (1, 28, 28) inside a box (4,) to run lengths in COCO's format.

    The probabilities are sampled at the centers of the pixels, as in mmdet. torchvision's own function makes objects
    one pixel larger.

    Args:
        mask: probabilities (1, 28, 28).
        box: x1, y1, x2, y2 in pixels.
        shape: height and width of the image.
    """
    x1, y1, x2, y2 = box.tolist()
    left, top = (min(max(0, math.floor(start)), side - 1) for start, side in ((x1, shape[1]), (y1, shape[0])))
    right, bottom = max(left + 1, min(shape[1], math.ceil(x2))), max(top + 1, min(shape[0], math.ceil(y2)))
    x = (torch.arange(left, right) + 0.5 - x1) / (x2 - x1) * 2 - 1
    y = (torch.arange(top, bottom) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)  # (h, w, 2)
    pasted = F.grid_sample(mask[None].float(), grid[None], align_corners=False)[0, 0] >= 0.5
    return CroppedRLE.from_mask(pasted.numpy(), top, left).in_image(*shape)
