"""EncoderDecoder compared with mmseg's: the same classes, for images of any size, in bounded memory."""
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmseg.models.segmentors import EncoderDecoder as MMSegEncoderDecoder
from mmseg.structures import SegDataSample
from torch.utils._python_dispatch import TorchDispatchMode

import mae_backbone.segmentation  # noqa: F401  registers the models
from mae_backbone.prediction import chunked_logits

CLASSES, MANY = 5, 100


def model(*, kind: str = 'mae_backbone.EncoderDecoder', mode: str = 'slide', size_divisor: int = 1, out_channels=None,
          **options):
    torch.manual_seed(0)
    test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(21, 21)) if mode == 'slide' else dict(mode='whole')
    built = MODELS.build(ConfigDict(
        type=kind, **options, test_cfg=test_cfg, train_cfg=dict(),
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[127.0] * 3, std=[60.0] * 3,
                               test_cfg=dict(size_divisor=size_divisor)),
        backbone=dict(type='mae_backbone.ViTBackbone', arch=dict(width=16, depth=2, heads=2), patch_size=8,
                      image_size=32, out_indices=(0, 1)),
        decode_head=dict(type='mmseg.FCNHead', in_channels=16, channels=16, in_index=1, num_convs=1,
                         num_classes=2 if out_channels else CLASSES, out_channels=out_channels, align_corners=False,
                         threshold=0.3 if out_channels else None,
                         loss_decode=dict(type='mmseg.CrossEntropyLoss', use_sigmoid=out_channels == 1))))
    torch.nn.init.normal_(built.decode_head.conv_seg.weight, std=1.0)
    return built.eval()


def data(size: tuple[int, int], ori_shape: tuple[int, int] | None = None) -> dict[str, list]:
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *size), np.uint8))
    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=ori_shape or size))
    return dict(inputs=[image], data_samples=[sample])


@torch.no_grad()
def margin_and_labels(segmenter: MMSegEncoderDecoder, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the margin between the two best logits, and the predicted labels."""
    result = segmenter.test_step(batch)[0]
    best = result.seg_logits.data.topk(2, dim=0).values if len(result.seg_logits.data) > 1 else None
    return (torch.ones(()) if best is None else best[0] - best[1]), result.pred_sem_seg.data


SIZES = [((64, 80), None), ((64, 80), (50, 100)), ((40, 48), (81, 63))]


@pytest.mark.parametrize(('size', 'ori_shape'), SIZES)
@pytest.mark.parametrize(('mode', 'size_divisor'), [('slide', 1), ('whole', 1), ('whole', 32), ('slide', 32)])
def test_labels_equal_mmsegs(mode, size_divisor, size, ori_shape, monkeypatch):
    monkeypatch.setattr(chunked_logits, 'CHUNK_NUMEL', 7 * 100 * CLASSES)  # several chunks
    options = dict(mode=mode, size_divisor=size_divisor)
    margin, expected = margin_and_labels(model(kind='mmseg.EncoderDecoder', **options), data(size, ori_shape))
    with torch.no_grad():
        result = model(**options, logit_bytes=0).test_step(data(size, ori_shape))[0]
    assert 'seg_logits' not in result
    assert result.pred_sem_seg.data.shape == expected.shape == (1, *(ori_shape or size))
    certain = margin > 1e-4
    assert certain.float().mean() > 0.98
    assert result.pred_sem_seg.data[0][certain].equal(expected[0][certain])
    assert expected.unique().numel() > 2, 'a map of one class would prove nothing'


def test_single_logit_is_compared_with_mmsegs_threshold():
    _, expected = margin_and_labels(model(kind='mmseg.EncoderDecoder', out_channels=1), data((64, 80)))
    with torch.no_grad():
        result = model(out_channels=1, logit_bytes=0).test_step(data((64, 80)))[0].pred_sem_seg.data
    assert (result == expected).float().mean() > 0.999
    assert 0 < expected.float().mean() < 1


@pytest.mark.parametrize('mode', ['slide', 'whole'])
@pytest.mark.parametrize('size', [(20, 50), (33, 71), (7, 9)])
def test_images_of_any_size_are_segmented(mode, size):
    for logit_bytes in (0, 2 ** 29):
        with torch.no_grad():
            result = model(mode=mode, logit_bytes=logit_bytes).test_step(data(size))[0].pred_sem_seg.data
        assert result.shape == (1, *size)


def test_small_images_and_augmented_views_keep_their_logits():
    with torch.no_grad():
        assert 'seg_logits' in model().test_step(data((64, 80)))[0]
        view = data((64, 80))
        view['data_samples'][0].set_metainfo(dict(flip=False))
        assert 'seg_logits' in model(logit_bytes=0).test_step(view)[0]


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, (list, tuple)) else [result]
        self.numel = max([self.numel, *(output.numel() for output in outputs if torch.is_tensor(output))])
        return result


@pytest.mark.parametrize('mode', ['slide', 'whole'])
def test_logits_of_a_whole_image_are_never_in_memory(mode, monkeypatch):
    """The largest tensor holds the logits of a row of windows or of a chunk."""
    monkeypatch.setattr(chunked_logits, 'CHUNK_NUMEL', 10 * 48 * MANY)
    size, numel = (400, 48), {}
    for kind, options in (('mae_backbone.EncoderDecoder', dict(logit_bytes=0)), ('mmseg.EncoderDecoder', {})):
        segmenter = model(kind=kind, mode=mode, **options)
        segmenter.decode_head.conv_seg = torch.nn.Conv2d(16, MANY, 1)
        segmenter.out_channels = segmenter.decode_head.out_channels = MANY
        with torch.no_grad(), Largest() as largest:
            segmenter.test_step(data(size))
        numel[kind] = largest.numel
    assert numel['mmseg.EncoderDecoder'] >= MANY * 400 * 48
    assert numel['mae_backbone.EncoderDecoder'] <= MANY * 32 * 48, 'the windows are 32 pixels high'
