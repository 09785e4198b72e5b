"""Batches of random pixels and labels, in the form in which the data loader of a config delivers them."""
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mae_backbone.core.mae import MAE

OBJECTS = 10  # per image of a detector: ours; COCO has 7 on average
BLOCK = 32    # side in pixels of the squares of one label in a label map: ours


class Shape(NamedTuple):
    """Shape of a batch."""

    images: int
    size: tuple[int, int]  # H, W in pixels
    num_classes: int       # labels are below it


def synthetic_batch(model: nn.Module, shape: Shape) -> dict:
    """Draws a batch to train `model` on from torch's random numbers.

    Raises:
        ValueError: the form of the batches of this model is not known.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in MAKERS:
            return MAKERS[kind.__name__](model, shape)
    raise ValueError(f'{type(model).__name__} is not one of {", ".join(MAKERS)}, the form of its batches is unknown: '
                     'choose a config of such a model')


def for_pretraining(model: nn.Module, shape: Shape) -> dict:
    """Batch of `mae_backbone.UnlabeledImages` and its sampler."""
    B, mae = shape.images, cast(MAE, model.mae)
    return dict(inputs=torch.randint(256, (B, *shape.size, mae.encoder.in_channels), dtype=torch.uint8),
                seeds=torch.arange(B), flips=torch.arange(B) % 2 == 0, weights=torch.ones(B))


def for_classification(model: nn.Module, shape: Shape) -> dict:
    """Batch of `mae_backbone.ClassFolder`."""
    return dict(inputs=_images(shape), data_samples=torch.randint(shape.num_classes, (shape.images,)).tolist())


def for_segmentation(model: nn.Module, shape: Shape) -> dict:
    """Batch of mmseg's PackSegInputs."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    samples = []
    for _ in range(shape.images):
        labels = torch.randint(shape.num_classes, [-(-side // BLOCK) for side in shape.size])
        labels = labels.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:shape.size[0], :shape.size[1]]
        sample = SegDataSample(metainfo=_metainfo(shape))
        sample.gt_sem_seg = PixelData(data=labels[None])
        samples.append(sample)
    return dict(inputs=_images(shape), data_samples=samples)


def for_detection(model: nn.Module, shape: Shape) -> dict:
    """Batch of mmdet's PackDetInputs: boxes, labels, and masks that fill the boxes."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    samples = []
    for _ in range(shape.images):
        boxes, labels, masks = draw_objects(shape)
        sample = DetDataSample(metainfo=_metainfo(shape))
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(boxes), labels=labels,
            masks=BitmapMasks(masks.to(torch.uint8).numpy(), *shape.size))
        sample.ignored_instances = sample.gt_instances[:0]
        samples.append(sample)
    return dict(inputs=_images(shape), data_samples=samples)


def draw_objects(shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Draws the objects of an image: boxes (N, 4) x1 y1 x2 y2, labels (N,), and bool masks (N, H, W) of the boxes."""
    H, W = shape.size
    sides = torch.tensor([W, H])
    sizes = (sides * (0.05 + 0.45 * torch.rand(OBJECTS, 2))).long().clamp(min=1)
    corners = ((sides - sizes) * torch.rand(OBJECTS, 2)).long()
    masks = torch.zeros(OBJECTS, H, W, dtype=torch.bool)
    for mask, (x, y), (w, h) in zip(masks, corners.tolist(), sizes.tolist(), strict=True):
        mask[y:y + h, x:x + w] = True
    return torch.cat([corners, corners + sizes], dim=1).float(), torch.randint(shape.num_classes, (OBJECTS,)), masks


# By the name of a model's class or of a base class, so that mmdet and mmseg need not be imported.
MAKERS: dict[str, Callable[[nn.Module, Shape], dict]] = {
    'MAEPretrainer': for_pretraining, 'ViTClassifier': for_classification, 'BaseSegmentor': for_segmentation,
    'BaseDetector': for_detection}


def _images(shape: Shape) -> list[Tensor]:
    return list(torch.randint(256, (shape.images, 3, *shape.size), dtype=torch.uint8))


def _metainfo(shape: Shape) -> dict:
    return dict(img_shape=shape.size, ori_shape=shape.size, scale_factor=(1.0, 1.0))
