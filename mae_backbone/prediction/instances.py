"""What a detector finds in an image, small enough to keep thousands of it: boxes, and masks cut to what they cover."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from mmengine.structures import InstanceData
from pycocotools import mask as coco_rle


class CroppedRLE(NamedTuple):
    """The pixels of an object, as the run lengths of the part of the image that they fill."""

    top: int
    left: int
    rle: dict  # of pycocotools

    @classmethod
    def of(cls, pixels: np.ndarray, top: int = 0, left: int = 0) -> 'CroppedRLE':
        """pixels (H, W) bool, whose first one lies at (top, left) of the image."""
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        if not len(rows):
            return cls(top, left, coco_rle.encode(np.zeros((1, 1), np.uint8, order='F')))
        inner = pixels[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]
        return cls(top + int(rows[0]), left + int(columns[0]), coco_rle.encode(np.asfortranarray(inner, np.uint8)))

    def pixels(self) -> np.ndarray:
        """(h, w) bool: the part of the image at (top, left)."""
        return coco_rle.decode(self.rle).astype(bool)

    def shifted(self, top: int, left: int) -> 'CroppedRLE':
        return CroppedRLE(self.top + top, self.left + left, self.rle)

    def joined(self, other: 'CroppedRLE') -> 'CroppedRLE':
        """What is in one or the other."""
        parts = [(mask, mask.pixels()) for mask in (self, other)]
        top, left = min(self.top, other.top), min(self.left, other.left)
        bottom = max(mask.top + inner.shape[0] for mask, inner in parts)
        right = max(mask.left + inner.shape[1] for mask, inner in parts)
        both = np.zeros((bottom - top, right - left), bool)
        for mask, inner in parts:
            y, x = mask.top - top, mask.left - left
            both[y:y + inner.shape[0], x:x + inner.shape[1]] |= inner
        return CroppedRLE.of(both, top, left)

    def in_image(self, height: int, width: int) -> dict:
        """The run lengths of a whole image of that size, as COCO's results have them; the image is never laid out."""
        change = np.diff(np.pad(self.pixels(), ((1, 1), (0, 0))).astype(np.int8), axis=0).T  # column by column
        begin, end = ((self.left + column) * height + self.top + row
                      for column, row in (np.nonzero(change == 1), np.nonzero(change == -1)))
        apart = begin[1:] != end[:-1]  # a run that ends at the foot of a column may go on at the head of the next
        edges = np.stack([begin[np.r_[True, apart]], end[np.r_[apart, True]]], 1).ravel() if len(begin) else begin
        counts = np.diff(np.concatenate([[0], edges, [height * width]]))
        counts = counts if counts[-1] or len(counts) == 1 else counts[:-1]
        rle = coco_rle.frPyObjects({'counts': counts.tolist(), 'size': [height, width]}, height, width)
        return {'size': [height, width], 'counts': rle['counts'].decode()}


@dataclass(frozen=True)
class Objects:
    """N objects of an image.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, places in the list of classes.
        masks: one for each; None of a detector without.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[CroppedRLE] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @classmethod
    def of(cls, found: InstanceData, *, threshold: float = 0.0) -> 'Objects':
        """What mmdet predicts or annotates (`pred_instances`, `gt_instances`), but for scores below `threshold`."""
        boxes = getattr(found.bboxes, 'tensor', found.bboxes)  # annotations come as a box structure
        scores = found.scores if 'scores' in found else torch.ones(len(boxes))
        keep = scores >= threshold
        masks = None
        if 'masks' in found:
            pixels = found.masks.to_ndarray() if hasattr(found.masks, 'to_ndarray') else found.masks  # annotations
            pixels = torch.as_tensor(pixels, dtype=torch.bool)
            masks = [CroppedRLE.of(one.cpu().numpy()) for one in pixels[keep.to(pixels.device)]]
        return cls(*(part[keep].float().cpu().numpy() for part in (boxes, scores)),
                   found.labels[keep].cpu().numpy(), masks)

    def take(self, index: np.ndarray) -> 'Objects':
        """Those at `index`, in its order."""
        masks = None if self.masks is None else [self.masks[i] for i in index]
        return Objects(self.boxes[index], self.scores[index], self.labels[index], masks)

    def shifted(self, top: int, left: int) -> 'Objects':
        """Seen from a corner that lies that much further up and left."""
        masks = None if self.masks is None else [mask.shifted(top, left) for mask in self.masks]
        return Objects(self.boxes + np.float32([left, top, left, top]), self.scores, self.labels, masks)

    @staticmethod
    def together(parts: Sequence['Objects']) -> 'Objects':
        """All of several."""
        masks = None if parts[0].masks is None else [mask for part in parts for mask in part.masks]
        return Objects(*(np.concatenate([getattr(part, name) for part in parts])
                         for name in ('boxes', 'scores', 'labels')), masks)
