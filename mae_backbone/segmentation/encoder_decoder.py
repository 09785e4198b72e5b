"""mmseg's model of backbone and head for images of any size: of any number of pixels, and in bounded memory."""
from collections.abc import Iterator

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor

from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.tiles import grid
from mae_backbone.registry import MODELS

_FEWEST = 4  # ours: patches along a side below which the coarsest map of a pyramid would be empty


@MODELS.register_module()
class EncoderDecoder(MMSegEncoderDecoder):
    """mmseg's `EncoderDecoder`, of which it differs in testing alone.

    Images, and windows of the mode 'slide', that are small or whose sides the patches do not divide are filled up with
    zeros. Where the logits of all classes at the size of the image would take more than `logit_bytes`, they are made
    and forgotten a band of rows at a time; the classes are the same, the data sample then has no `seg_logits`. Views of
    a test-time augmentation keep them to be merged.

    Args:
        logit_bytes: of one image, in float32. Ours: those of 150 classes on 900x1000 pixels.
        options: as in mmseg's.
    """

    def __init__(self, *, logit_bytes: int = 2 ** 29, **options) -> None:
        super().__init__(**options)
        self.logit_bytes = logit_bytes

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """inputs (B, 3, H, W) -> samples with `pred_sem_seg` at the size of the image files."""
        if data_samples is None or 'flip' in data_samples[0].metainfo or self._fits(inputs, data_samples):
            return super().predict(inputs, data_samples)
        for image, sample in zip(inputs, data_samples, strict=True):
            sample.set_data({'pred_sem_seg': PixelData(data=self.label_map(image[None], sample.metainfo)[None])})
        return data_samples

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """inputs (B, 3, H, W) -> logits (B, classes, H, W)."""
        padded = self._padded(inputs)
        size = padded.shape[2:]
        logits = super().encode_decode(padded, [{**meta, 'img_shape': size} for meta in batch_img_metas])
        return logits[..., :inputs.shape[2], :inputs.shape[3]]

    def label_map(self, image: Tensor, meta: dict) -> Tensor:
        """image (1, 3, H, W) from the data preprocessor, and its `metainfo` -> classes of the pixels of its file."""
        height, width = image.shape[2:]
        left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
        size = height - top - bottom, width - left - right
        logits = chunked_logits.cropped(self._bands(image), top, left, *size)
        logits = chunked_logits.resized(logits, size, tuple(meta['ori_shape'][:2]), align_corners=self.align_corners)
        return chunked_logits.labels(logits, threshold=getattr(self.decode_head, 'threshold', None))

    def _bands(self, image: Tensor) -> Iterator[Tensor]:
        """image (1, 3, H, W) -> its logits in the mode of the config, in bands."""
        size = tuple(image.shape[2:])
        if self.test_cfg.get('mode', 'whole') == 'slide':
            tiles = grid(size, self.test_cfg.crop_size, self.test_cfg.stride)
            return chunked_logits.averaged(tiles, size[1],
                                  lambda tile: self.encode_decode(image[(..., *tile.slices)], [{}])[0])
        padded = self._padded(image)
        if not _only_resizes(self.decode_head):
            return chunked_logits.split(self.encode_decode(image, [{}])[0])
        logits = self._forward(padded, None)[0]
        full = chunked_logits.resized(chunked_logits.split(logits), tuple(logits.shape[1:]), tuple(padded.shape[2:]),
                             align_corners=self.align_corners)
        return chunked_logits.cropped(full, 0, 0, *size)

    def _padded(self, inputs: Tensor) -> Tensor:
        """inputs (B, 3, H, W) -> the same with zeros to the right and below, up to whole patches."""
        patch = getattr(self.backbone, 'patch_size', 1)
        more = [max(-side % patch, _FEWEST * patch - side) for side in inputs.shape[2:]]
        return F.pad(inputs, (0, more[1], 0, more[0]))

    def _fits(self, inputs: Tensor, data_samples: list[SegDataSample]) -> bool:
        pixels = max(inputs.shape[2] * inputs.shape[3],
                     *(sample.ori_shape[0] * sample.ori_shape[1] for sample in data_samples))
        return 4 * self.out_channels * pixels <= self.logit_bytes


def _only_resizes(head: BaseDecodeHead) -> bool:
    """Whether the logits of a head are those of its `forward`, at another size (not so with queries)."""
    return all(getattr(type(head), name) is getattr(BaseDecodeHead, name) for name in ('predict', 'predict_by_feat'))
