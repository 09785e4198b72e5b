"""Batches of random pixels and labels, as the loader of a config would deliver them."""
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

OBJECTS = 10  # in an image of a detector: ours; COCO has 7 on average
BLOCK = 32    # pixels, the side of the areas of one label in a label map: ours


class Shape(NamedTuple):
    """Of a batch."""

    images: int
    size: tuple[int, int]  # H, W in pixels
    classes: int           # labels are below it


def synthetic_batch(model: nn.Module, shape: Shape) -> dict:
    """A batch to train `model` on, from torch's random numbers.

    Raises:
        ValueError: a model for which it is not known what a batch holds.
    """
    for kind in type(model).__mro__:
        if kind.__name__ in MAKERS:
            return MAKERS[kind.__name__](model, shape)
    raise ValueError(f'{type(model).__name__} is none of {", ".join(MAKERS)}: it is not known what its batches hold')


def for_pretraining(model: nn.Module, shape: Shape) -> dict:
    """What `mae_backbone.UnlabeledImages` and its sampler give."""
    B = shape.images
    return dict(inputs=torch.randint(256, (B, *shape.size, model.mae.encoder.in_channels), dtype=torch.uint8),
                seeds=torch.arange(B), flips=torch.arange(B) % 2 == 0, weights=torch.ones(B))


def for_classification(model: nn.Module, shape: Shape) -> dict:
    """What `mae_backbone.ClassFolder` gives."""
    return dict(inputs=_images(shape), data_samples=torch.randint(shape.classes, (shape.images,)).tolist())


def for_segmentation(model: nn.Module, shape: Shape) -> dict:
    """What mmseg's PackSegInputs gives."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    samples = []
    for _ in range(shape.images):
        labels = torch.randint(shape.classes, [-(-side // BLOCK) for side in shape.size])
        labels = labels.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:shape.size[0], :shape.size[1]]
        sample = SegDataSample(metainfo=_about(shape))
        sample.gt_sem_seg = PixelData(data=labels[None])
        samples.append(sample)
    return dict(inputs=_images(shape), data_samples=samples)


def for_detection(model: nn.Module, shape: Shape) -> dict:
    """What mmdet's PackDetInputs gives: boxes, labels and masks that fill the boxes."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    (H, W), samples = shape.size, []
    for _ in range(shape.images):
        sides = torch.tensor([W, H])
        sizes = (sides * (0.05 + 0.45 * torch.rand(OBJECTS, 2))).long().clamp(min=1)
        corners = ((sides - sizes) * torch.rand(OBJECTS, 2)).long()
        masks = torch.zeros(OBJECTS, H, W, dtype=torch.uint8)
        for mask, (x, y), (w, h) in zip(masks, corners.tolist(), sizes.tolist(), strict=True):
            mask[y:y + h, x:x + w] = 1
        sample = DetDataSample(metainfo=_about(shape))
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(torch.cat([corners, corners + sizes], dim=1).float()),
            labels=torch.randint(shape.classes, (OBJECTS,)), masks=BitmapMasks(masks.numpy(), H, W))
        sample.ignored_instances = sample.gt_instances[:0]
        samples.append(sample)
    return dict(inputs=_images(shape), data_samples=samples)


# By the class that a model is, or descends from: mmdet and mmseg are not imported for it.
MAKERS: dict[str, Callable[[nn.Module, Shape], dict]] = {
    'MAEPretrainer': for_pretraining, 'ViTClassifier': for_classification, 'BaseSegmentor': for_segmentation,
    'BaseDetector': for_detection}


def _images(shape: Shape) -> list[Tensor]:
    return list(torch.randint(256, (shape.images, 3, *shape.size), dtype=torch.uint8))


def _about(shape: Shape) -> dict:
    return dict(img_shape=shape.size, ori_shape=shape.size, scale_factor=(1.0, 1.0))
