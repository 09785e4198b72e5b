"""Data whose labels can be read off the pixels, models that do so, and specs of peers."""
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from mae_backbone.utils.config_files import find_config

SEGMENTATION = dict(config='demo/upernet_vit-micro_2000i_camvid.py', metrics={'mIoU': 'mIoU'}, scale=1.0)
DETECTION = dict(config='demo/mask-rcnn_vit-micro_900i_nuclei.py', scale=100.0,
                 metrics={'coco/bbox_mAP': 'box AP', 'coco/segm_mAP': 'mask AP'})
BOXES = dict(config='demo/faster-rcnn_vit-micro_nuclei.py', scale=100.0, metrics={'coco/bbox_mAP': 'box AP'})
SIDE = 28  # of an object: as many pixels as torchvision predicts for a mask
_STEP = 80  # of the brightness from label to label


def peer_spec(task: dict, root: Path, **more: object) -> dict:
    """Spec of a cell of a peer that is compared to a task."""
    path = find_config(f'mae_backbone::{task["config"]}')
    return {'data_root': str(root), 'labels': 1.0, 'seed': 0, 'minutes': 0.05, 'options': {}, 'config_options': {},
            **{key: task[key] for key in ('metrics', 'scale')}, 'where': {'config': str(path)}, **more}


def ticking(step: float = 0.5) -> Callable[[], float]:
    """A clock that advances with every call, and a training step calls it twice."""
    return map(float, itertools.count(0, step)).__next__


def write_readable_maps(root: Path, *, train: int = 6, val: int = 3) -> Path:
    """Label maps of three classes, which are the brightness of the images, of sides that are no multiples of 32."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    (root / 'classes.txt').write_text('sky\nroad\ncar\n')
    for split, number in (('training', train), ('validation', val)):
        for kind in ('images', 'annotations'):
            (root / kind / split).mkdir(parents=True)
        for index in range(number):
            labels = np.kron(rng.integers(0, 3, (3, 5), np.uint8), np.ones((16, 16), np.uint8))
            cv2.imwrite(str(root / 'images' / split / f'{index}.jpg'), labels * _STEP)
            cv2.imwrite(str(root / 'annotations' / split / f'{index}.png'), labels)
    return root


def write_readable_boxes(root: Path, *, train: int = 6, val: int = 3) -> Path:
    """Bright squares on black, in COCO's format. The last training image has none."""
    rng = np.random.default_rng(0)
    (root / 'annotations').mkdir(parents=True)
    for split, number in (('train', train), ('val', val)):
        images, objects = [], []
        (root / split).mkdir()
        for index in range(number):
            image = np.zeros((70, 100), np.uint8)
            for y, x in itertools.product((1, 36), (1, 35, 69)):
                if rng.random() < 0.5 and not (split == 'train' and index == number - 1):
                    image[y:y + SIDE, x:x + SIDE] = 255
                    outline = [x, y, x + SIDE, y, x + SIDE, y + SIDE, x, y + SIDE]
                    objects.append(dict(id=len(objects) + 1, image_id=index, category_id=1, area=SIDE**2, iscrowd=0,
                                        bbox=[x, y, SIDE, SIDE], segmentation=[outline]))
            images.append(dict(id=index, file_name=f'{index}.png', width=100, height=70))
            cv2.imwrite(str(root / split / f'{index}.png'), image)
        content = dict(images=images, annotations=objects, categories=[dict(id=1, name='square')])
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root


class ReadingSegmenter(nn.Module):
    """Logits of the label that the brightness of a pixel states, by its mean and deviation in the config."""

    def __init__(self, num_classes: int, mean: float = 104.5, std: float = 78.2) -> None:
        super().__init__()
        self.num_classes, self.mean, self.std = num_classes, mean, std
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2] % 32 == images.shape[3] % 32 == 0
        labels = ((images[:, 0] * self.std + self.mean) / _STEP).round().long().clamp(0, self.num_classes - 1)
        return self.scale * nn.functional.one_hot(labels, self.num_classes).permute(0, 3, 1, 2)


class ReadingDetector(nn.Module):
    """The bright squares of an image, as torchvision's detectors predict them before masks are pasted.

    Attributes:
        targets: that it was trained on.
    """

    def __init__(self, *_: object, blind: bool = False, masks: bool = True) -> None:
        super().__init__()
        self.loss, self.blind, self.masks, self.targets = nn.Parameter(torch.ones(())), blind, masks, []

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict | list[dict]:
        if targets is not None:
            self.targets += zip(images, targets, strict=True)
            return {'box': self.loss.square(), 'mask': self.loss.square()}
        return [self._objects(image) for image in images]

    def _objects(self, image: Tensor) -> dict[str, Tensor]:
        _, _, stats, _ = cv2.connectedComponentsWithStats((image[0] > 0.5).byte().numpy())
        corners = torch.tensor(stats[1:, :4], dtype=torch.float32).reshape(-1, 4)
        boxes = torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], dim=1)[:0 if self.blind else None]
        N = len(boxes)
        found = {'boxes': boxes, 'labels': torch.ones(N, dtype=torch.long), 'scores': torch.full((N,), 0.9)}
        return found | {'masks': torch.ones(N, 1, SIDE, SIDE)} if self.masks else found
