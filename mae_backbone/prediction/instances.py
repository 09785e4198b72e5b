"""Instances that a detector predicts: boxes, and masks as run lengths of their regions."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_rle


class CroppedRLE(NamedTuple):
    """Mask of an instance, stored as run lengths of the region that contains it."""

    top: int   # row of the upper left pixel of the region in the image
    left: int  # column of this pixel
    rle: dict  # run lengths of the region, as pycocotools encodes them

    @classmethod
    def from_mask(cls, mask: np.ndarray, top: int = 0, left: int = 0) -> 'CroppedRLE':
        """Encodes a mask (H, W) bool. Its upper left pixel is at row `top` and column `left` of the image."""
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return cls(top, left, coco_rle.encode(np.zeros((1, 1), np.uint8, order='F')))
        inner = mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        return cls(top + int(rows[0]), left + int(columns[0]), coco_rle.encode(np.asfortranarray(inner, np.uint8)))

    def to_mask(self) -> np.ndarray:
        """Decodes the region (h, w) bool. Its upper left pixel is at row `top` and column `left` of the image."""
        return coco_rle.decode(self.rle).astype(bool)

    def shift(self, top: int, left: int) -> 'CroppedRLE':
        """Moves the mask down by `top` and right by `left` pixels."""
        return CroppedRLE(self.top + top, self.left + left, self.rle)

    def union(self, other: 'CroppedRLE') -> 'CroppedRLE':
        """Returns the pixels that are in either mask."""
        masks = [(mask, mask.to_mask()) for mask in (self, other)]
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(mask.top + inner.shape[0] for mask, inner in masks)
        right = max(mask.left + inner.shape[1] for mask, inner in masks)
        both = np.zeros((bottom - top, right - left), bool)
        for mask, inner in masks:
            y, x = mask.top - top, mask.left - left
            both[y:y + inner.shape[0], x:x + inner.shape[1]] |= inner
        return CroppedRLE.from_mask(both, top, left)

    def in_image(self, height: int, width: int) -> dict:
        """Returns run lengths of the whole image in COCO's result format.

        The mask of the whole image is never in memory.
        """
        change = np.diff(np.pad(self.to_mask(), ((1, 1), (0, 0))).astype(np.int8), axis=0).T  # column by column
        begin, end = ((self.left + column) * height + self.top + row
                      for column, row in (np.nonzero(change == 1), np.nonzero(change == -1)))
        separate = begin[1:] != end[:-1]  # a run at the end of a column may continue at the start of the next column
        edges = np.stack([begin[np.r_[True, separate]], end[np.r_[separate, True]]], 1).ravel() if len(begin) else begin
        counts = np.diff(np.concatenate([[0], edges, [height * width]]))
        counts = counts if counts[-1] or len(counts) == 1 else counts[:-1]
        rle = coco_rle.frPyObjects({'counts': counts.tolist(), 'size': [height, width]}, height, width)
        return {'size': [height, width], 'counts': rle['counts'].decode()}


@dataclass(frozen=True)
class Instances:
    """N instances in an image.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, indices of classes.
        masks: N masks; None if the detector predicts no masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[CroppedRLE] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def from_data(cls, data: InstanceData, *, threshold: float = 0.0) -> 'Instances':
        """Converts predictions or annotations of mmdet (`pred_instances`, `gt_instances`).

        Args:
            data: predictions, or annotations, which have no scores and get the score 1.
            threshold: instances with a lower score are removed.
        """
        boxes = getattr(data.bboxes, 'tensor', data.bboxes)  # annotations have a box structure instead of a tensor
        scores = data.scores if 'scores' in data else torch.ones(len(boxes))
        keep = scores >= threshold
        masks = None
        if 'masks' in data:
            # Annotations have a mask structure instead of a tensor.
            pixels = data.masks.to_ndarray() if hasattr(data.masks, 'to_ndarray') else data.masks
            pixels = torch.as_tensor(pixels, dtype=torch.bool)
            masks = [CroppedRLE.from_mask(mask.cpu().numpy()) for mask in pixels[keep.to(pixels.device)]]
        return cls(boxes[keep].float().cpu().numpy(), scores[keep].float().cpu().numpy(),
                   data.labels[keep].cpu().numpy(), masks)

    def select(self, index: np.ndarray) -> 'Instances':
        """Returns the instances at `index`, in its order."""
        masks = None if self.masks is None else [self.masks[i] for i in index]
        return Instances(self.boxes[index], self.scores[index], self.labels[index], masks)

    def shift(self, top: int, left: int) -> 'Instances':
        """Moves the instances down by `top` and right by `left` pixels."""
        masks = None if self.masks is None else [mask.shift(top, left) for mask in self.masks]
        return Instances(self.boxes + np.array([left, top, left, top], np.float32), self.scores, self.labels, masks)

    @staticmethod
    def concatenate(groups: Sequence['Instances']) -> 'Instances':
        """Returns the instances of all groups. Either all groups have masks, or none has."""
        masks = None if groups[0].masks is None else [mask for group in groups for mask in group.masks or ()]
        return Instances(np.concatenate([group.boxes for group in groups]),
                         np.concatenate([group.scores for group in groups]),
                         np.concatenate([group.labels for group in groups]), masks)
