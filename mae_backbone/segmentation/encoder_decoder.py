"""Segmenter of backbone and head for images of any size, in bounded memory."""
from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.tiles import Tile, grid
from mae_backbone.registry import MODELS

# Patches along a side below which the coarsest map of a pyramid would be empty; our choice.
_MIN_PATCHES = 4


@MODELS.register_module()
class EncoderDecoder(MMSegEncoderDecoder):
    """mmseg's `EncoderDecoder` for images of any size. It differs only in testing.

    Images, and windows of the mode 'slide', are padded with zeros if they are small or if their sides are not multiples
    of the patch size. If the logits of all classes at the size of the image need more than `logit_bytes`, they are
    computed chunk by chunk, each a few rows of the image, and only their classes are kept. The predicted classes are
    the same, but the data sample then has no `seg_logits`. Views of test-time augmentation keep their logits, which are
    merged later.

    Args:
        logit_bytes: limit for the logits of one image, in bytes of float32. The default, our choice, fits 150 classes
            on 900x1000 pixels.
        options: arguments of mmseg's `EncoderDecoder`.
    """

    def __init__(self, *, logit_bytes: int = 2 ** 29, **options: Any) -> None:
        super().__init__(**options)
        self.logit_bytes = logit_bytes

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Images (B, 3, H, W) -> samples with `pred_sem_seg` at the size of the image files."""
        if data_samples is None or 'flip' in data_samples[0].metainfo or self._fits(inputs, data_samples):
            return super().predict(inputs, data_samples)
        for image, sample in zip(inputs, data_samples, strict=True):
            sample.set_data({'pred_sem_seg': PixelData(data=self.label_map(image[None], sample.metainfo)[None])})
        return data_samples

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, C, H, W)."""
        padded = self._pad(inputs)
        size = padded.shape[2:]
        logits = super().encode_decode(padded, [{**meta, 'img_shape': size} for meta in batch_img_metas])
        return logits[..., :inputs.shape[2], :inputs.shape[3]]

    def label_map(self, image: Tensor, meta: dict) -> Tensor:
        """Image (1, 3, H, W) from the data preprocessor and its `metainfo` -> labels (H', W') at the file's size."""
        height, width = image.shape[2:]
        left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
        size = height - top - bottom, width - left - right
        file_height, file_width = meta['ori_shape'][:2]
        logits = chunked_logits.crop(self._logit_chunks(image), top, left, *size)
        logits = chunked_logits.resize(logits, size, (file_height, file_width), align_corners=self.align_corners)
        return chunked_logits.predict_labels(logits, threshold=getattr(self.decode_head, 'threshold', None))

    def _logit_chunks(self, image: Tensor) -> Iterator[Tensor]:
        """Image (1, 3, H, W) -> chunks (C, n, W) of its logits, in the test mode of the config."""
        height, width = image.shape[2:]
        if self.test_cfg.get('mode', 'whole') == 'slide':
            tiles = grid((height, width), self.test_cfg.crop_size, self.test_cfg.stride)
            return chunked_logits.average_tiles(tiles, width, lambda tile: self._tile_logits(image, tile))
        if not _only_resizes(self.decode_head):
            return chunked_logits.split_rows(self.encode_decode(image, [{}])[0])
        padded = self._pad(image)
        logits = self._forward(padded, None)[0]
        full = chunked_logits.resize(
            chunked_logits.split_rows(logits), (logits.shape[1], logits.shape[2]), (padded.shape[2], padded.shape[3]),
            align_corners=self.align_corners)
        return chunked_logits.crop(full, 0, 0, height, width)

    def _tile_logits(self, image: Tensor, tile: Tile) -> Tensor:
        rows, columns = tile.slices
        return self.encode_decode(image[..., rows, columns], [{}])[0]

    def _pad(self, inputs: Tensor) -> Tensor:
        """Pads images (B, 3, H, W) with zeros on the right and at the bottom, to a multiple of the patch size."""
        patch_size = getattr(self.backbone, 'patch_size', 1)
        bottom, right = (max(-side % patch_size, _MIN_PATCHES * patch_size - side) for side in inputs.shape[2:])
        return F.pad(inputs, (0, right, 0, bottom))

    def _fits(self, inputs: Tensor, data_samples: list[SegDataSample]) -> bool:
        """True if the logits of each image need at most `logit_bytes`."""
        pixels = max(inputs.shape[2] * inputs.shape[3],
                     *(sample.ori_shape[0] * sample.ori_shape[1] for sample in data_samples))
        return 4 * self.out_channels * pixels <= self.logit_bytes


def _only_resizes(head: BaseDecodeHead) -> bool:
    """True if a head predicts the resized output of its `forward`; heads with queries do not."""
    return all(getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in ('predict', 'predict_by_feat'))
