"""The replacements, called through mmcv's own wrappers, against their definitions written as NumPy loops."""
import math
import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import mae_backbone  # noqa: F401  must come before mmcv.ops
from mae_backbone.compat.mmcv_ops import OpNotCompiledError

# isort: split
import mmcv.ops

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# ---- boxes

def random_boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes with whole corners, so that exact ties of IoU and threshold occur, and distinct scores."""
    low = rng.integers(0, 20, (count, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 12, (count, 2))], axis=1)
    return boxes.astype(np.float32), ((rng.permutation(count) + 1) / (count + 1)).astype(np.float32)


def area(box: np.ndarray, offset: int) -> np.float32:
    return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)


def intersection(a: np.ndarray, b: np.ndarray, offset: int) -> np.float32:
    sides = [max(np.float32(0), min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + offset) for i in (0, 1)]
    return sides[0] * sides[1]


def iou(a: np.ndarray, b: np.ndarray, offset: int = 0) -> np.float32:
    shared = intersection(a, b, offset)
    return shared / (area(a, offset) + area(b, offset) - shared)


def nms_loop(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int = 0) -> list[int]:
    """Reference NMS: a box is kept if no kept box overlaps it by more than the threshold. float32, as in mmcv."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind='stable').tolist():
        if all(iou(boxes[k], boxes[i], offset) <= np.float32(threshold) for k in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5, 0.7])
def test_nms_equals_the_loop(rng, threshold, offset):
    for count in (1, 2, 40, 40, 40, 40):
        boxes, scores = random_boxes(rng, count)
        dets, kept = mmcv.ops.nms(boxes, scores, threshold, offset=offset)
        assert kept.tolist() == nms_loop(boxes, scores, threshold, offset)
        np.testing.assert_array_equal(dets, np.concatenate([boxes[kept], scores[kept, None]], axis=1))


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('tenths', range(1, 10))
def test_nms_keeps_a_box_whose_iou_is_exactly_the_threshold(tenths, offset):
    boxes = torch.tensor([[0., 0, 10, 10], [0, 0, 10, tenths]])
    boxes[:, 2:] -= offset
    scores = torch.tensor([.9, .8])
    assert mmcv.ops.nms(boxes, scores, tenths / 10, offset=offset)[1].tolist() == [0, 1]
    assert mmcv.ops.nms(boxes, scores, tenths / 10 - 1e-6, offset=offset)[1].tolist() == [0]


def test_nms_applies_score_threshold_and_max_num(rng):
    boxes, scores = random_boxes(rng, 40)
    above = np.flatnonzero(scores > .4)
    expected = above[nms_loop(boxes[above], scores[above], .3)].tolist()
    assert len(expected) > 4
    assert mmcv.ops.nms(boxes, scores, .3, score_threshold=.4)[1].tolist() == expected
    assert mmcv.ops.nms(boxes, scores, .3, score_threshold=.4, max_num=4)[1].tolist() == expected[:4]


def test_nms_of_no_boxes_returns_no_boxes():
    dets, kept = mmcv.ops.nms(torch.zeros(0, 4), torch.zeros(0), .5, offset=1)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@pytest.mark.parametrize('dtype', HALVES)
def test_nms_of_halves_equals_nms_of_the_rounded_values(rng, dtype):
    boxes, scores = (torch.from_numpy(array).to(dtype) for array in random_boxes(rng, 40))
    with torch.autocast('cpu', dtype=dtype):
        dets, kept = mmcv.ops.nms(boxes, scores, .3)
    assert dets.dtype == dtype
    assert kept.tolist() == nms_loop(boxes.float().numpy(), scores.float().numpy(), .3)


@pytest.mark.parametrize('split_thr', [10_000, 10], ids=['together', 'class by class'])
def test_batched_nms_is_nms_of_each_class_unless_agnostic(rng, split_thr):
    boxes, scores = random_boxes(rng, 60)
    classes = rng.integers(0, 3, 60)
    per_class = [members[nms_loop(boxes[members], scores[members], .3)]
                 for members in (np.flatnonzero(classes == c) for c in range(3))]
    per_class = sorted(np.concatenate(per_class).tolist(), key=lambda i: -scores[i])
    arguments = [torch.from_numpy(array) for array in (boxes, scores, classes)]

    dets, kept = mmcv.ops.batched_nms(*arguments, {'type': 'nms', 'iou_threshold': .3, 'split_thr': split_thr})
    assert kept.tolist() == per_class
    assert_close(dets[:, :4], arguments[0][kept])
    agnostic = mmcv.ops.batched_nms(*arguments, {'type': 'nms', 'iou_threshold': .3}, class_agnostic=True)[1]
    assert agnostic.tolist() == nms_loop(boxes, scores, .3)
    assert len(agnostic) < len(kept)


def soft_nms_loop(boxes: np.ndarray, scores: np.ndarray, *, iou_threshold: float, sigma: float, min_score: float,
                  method: str, offset: int) -> tuple[list[int], list[float]]:
    """Figure 2 of the paper (Bodla et al., ICCV 2017), and mmcv's threshold for the remaining scores."""
    scores, left = scores.copy(), list(range(len(boxes)))
    kept, kept_scores = [], []
    while left:
        best = max(left, key=lambda i: scores[i])
        left.remove(best)
        kept.append(best)
        kept_scores.append(scores[best])
        for i in left:
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                scores[i] *= math.exp(-overlap**2 / sigma)
            elif overlap >= np.float32(iou_threshold):
                scores[i] *= 1 - overlap if method == 'linear' else 0
        left = [i for i in left if scores[i] >= np.float32(min_score)]
    return kept, kept_scores


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize(('iou_threshold', 'min_score'), [(.3, .05), (.5, .2)])
def test_soft_nms_equals_the_loop(rng, method, offset, iou_threshold, min_score):
    boxes, scores = random_boxes(rng, 40)
    options = {'iou_threshold': iou_threshold, 'sigma': .5, 'min_score': min_score, 'method': method, 'offset': offset}
    kept, kept_scores = soft_nms_loop(boxes, scores, **options)
    before = scores.copy()
    dets, indices = mmcv.ops.soft_nms(boxes, scores, **options)
    assert len(kept) < 40
    assert indices.tolist() == kept
    np.testing.assert_allclose(dets, np.column_stack([boxes[kept], kept_scores]), rtol=1e-5)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize('tenths', range(1, 10))
def test_soft_nms_lowers_a_box_whose_iou_is_exactly_the_threshold(tenths):
    boxes, scores = torch.tensor([[0., 0, 10, 10], [0, 0, 10, tenths]]), torch.tensor([.9, .8])
    linear = mmcv.ops.soft_nms(boxes, scores, iou_threshold=tenths / 10, method='linear')[0]
    assert_close(linear[:, 4], torch.tensor([.9, .8 * (1 - tenths / 10)]))
    assert mmcv.ops.soft_nms(boxes, scores, iou_threshold=tenths / 10, method='naive')[1].tolist() == [0]


def test_soft_nms_does_not_change_boxes_without_area():
    boxes, scores = torch.ones(2, 4), torch.tensor([.5, .9])
    for method in ('naive', 'linear', 'gaussian'):
        dets, indices = mmcv.ops.soft_nms(boxes, scores, method=method)
        assert indices.tolist() == [1, 0]
        assert_close(dets[:, 4], scores.flip(0))


def test_soft_nms_of_no_boxes_returns_no_boxes():
    dets, indices = mmcv.ops.soft_nms(torch.zeros(0, 4), torch.zeros(0))
    assert dets.shape == (0, 5)
    assert indices.shape == (0,)


def test_nms_match_groups_kept_and_suppressed_boxes(rng):
    boxes, scores = random_boxes(rng, 40)
    boxes[7, 2:] = boxes[7, :2]  # no area: a separate group
    left, expected = np.argsort(-scores).tolist(), []
    while left:
        group = [i for i in left if i == left[0] or iou(boxes[left[0]], boxes[i]) >= np.float32(.3)]
        expected.append(group)
        left = [i for i in left if i not in group]
    groups = mmcv.ops.nms_match(np.column_stack([boxes, scores]), .3)
    assert [group.tolist() for group in groups] == expected
    assert [7] in expected


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', ['iou', 'iof'])
def test_bbox_overlaps_equals_the_loop(rng, mode, offset):
    a, b = random_boxes(rng, 8)[0], random_boxes(rng, 6)[0]

    def overlap(x: np.ndarray, y: np.ndarray) -> np.float32:
        return iou(x, y, offset) if mode == 'iou' else intersection(x, y, offset) / area(x, offset)

    arguments = torch.from_numpy(a), torch.from_numpy(b)
    expected = torch.tensor([[overlap(x, y) for y in b] for x in a])
    assert_close(mmcv.ops.bbox_overlaps(*arguments, mode=mode, offset=offset), expected)
    aligned = mmcv.ops.bbox_overlaps(arguments[0][:6], arguments[1], mode=mode, aligned=True, offset=offset)
    assert_close(aligned, expected.diagonal())
    half = mmcv.ops.bbox_overlaps(*(boxes.bfloat16() for boxes in arguments), mode=mode, offset=offset)
    assert_close(half, expected.bfloat16())


# ---- regions of feature maps

ROIS = torch.tensor([
    [0, 2.3, 1.1, 17.9, 12.4],    # inside
    [1, 2.3, 1.1, 17.9, 12.4],    # of the other image
    [1, -9, -7, 8, 6.5],          # partly outside, top left
    [0, 15, 10, 60, 40],          # partly outside, bottom right
    [1, 100, 80, 130, 90],        # wholly outside
    [0, 5, 5, 5.4, 5.2],          # smaller than a cell
    [0, 4, 4, 4, 4],              # without area
    [1, 0, 0, 24, 16],            # the image
])


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """plane (H, W) at (y, x). Its border extends by one cell (mmcv/ops/csrc/pytorch/cpu/roi_align.cpp).

    Beyond that it is zero.
    """
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    return ((1 - dy) * ((1 - dx) * plane[top, left] + dx * plane[top, right])
            + dy * ((1 - dx) * plane[bottom, left] + dx * plane[bottom, right]))


def roi_align_loop(features: np.ndarray, rois: np.ndarray, *, output_size: tuple[int, int], spatial_scale: float,
                   sampling_ratio: int, aligned: bool) -> np.ndarray:
    """The mean of bilinear samples on a regular grid in each bin (He et al., ICCV 2017, section 3)."""
    rows, columns = output_size
    output = np.zeros((len(rois), features.shape[1], rows, columns))
    for k, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (corner * spatial_scale - (.5 if aligned else 0) for corner in corners)
        height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        down, across = sampling_ratio or math.ceil(height / rows), sampling_ratio or math.ceil(width / columns)
        for channel, i, j in np.ndindex(output.shape[1:]):
            samples = [bilinear(features[int(image), channel], y1 + (i + (a + .5) / down) * height / rows,
                                x1 + (j + (b + .5) / across) * width / columns)
                       for a in range(down) for b in range(across)]
            output[k, channel, i, j] = np.mean(samples) if samples else 0
    return output


ROI_OPTIONS = [{'output_size': (3, 2), 'spatial_scale': .5, 'sampling_ratio': ratio, 'aligned': aligned}
               for ratio in (0, 2) for aligned in (True, False)]


@pytest.mark.parametrize('options', ROI_OPTIONS, ids=str)
def test_roi_align_equals_the_loop(options):
    features = torch.randn(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(roi_align_loop(features.numpy(), ROIS.double().numpy(), **options))
    align = mmcv.ops.RoIAlign(**options)
    assert_close(align(features, ROIS.double()), expected)
    assert_close(align(features.float(), ROIS), expected.float(), rtol=1e-4, atol=1e-5)
    assert_close(align(features.float().to(memory_format=torch.channels_last), ROIS), align(features.float(), ROIS))


@pytest.mark.parametrize('dtype', HALVES)
@pytest.mark.parametrize('autocast', [True, False])
def test_roi_align_of_halves_is_rounded_once(dtype, autocast):
    features = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=dtype, enabled=autocast):
        output = mmcv.ops.RoIAlign(**ROI_OPTIONS[0])(features, ROIS)
        wide = features.detach().float().requires_grad_()
        expected = mmcv.ops.RoIAlign(**ROI_OPTIONS[0])(wide, ROIS)
    assert expected.dtype == torch.float32
    assert_close(output, expected.to(dtype), rtol=0, atol=0)

    direction = torch.linspace(-1, 1, output.numel()).reshape(output.shape).to(dtype)
    (grad,), (expected_grad,) = (torch.autograd.grad(output, features, direction),
                                 torch.autograd.grad(expected, wide, direction.float()))
    assert_close(grad, expected_grad.to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize('options', ROI_OPTIONS, ids=str)
def test_roi_align_gradient_equals_finite_differences(options):
    features = torch.randn(2, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    align = mmcv.ops.RoIAlign(**options)
    assert torch.autograd.gradcheck(lambda x: align(x, ROIS.double()), features)


def test_roi_align_of_no_regions_has_a_gradient_of_zeros():
    features = torch.randn(2, 3, 8, 12, requires_grad=True)
    output = mmcv.ops.RoIAlign((7, 7))(features, torch.zeros(0, 5))
    assert output.shape == (0, 3, 7, 7)
    output.sum().backward()
    assert_close(features.grad, torch.zeros(2, 3, 8, 12))


# ---- focal loss

def focal_loop(logits: np.ndarray, target: np.ndarray, gamma: float, alpha: float) -> np.ndarray:
    """Equation 5 of Lin et al., ICCV 2017, of each class against the rest."""
    loss = np.zeros(logits.shape)
    for i, c in np.ndindex(logits.shape):
        p = 1 / (1 + math.exp(-logits[i, c]))
        p_t, alpha_t = (p, alpha) if target[i] == c else (1 - p, 1 - alpha)
        loss[i, c] = -alpha_t * (1 - p_t)**gamma * math.log(p_t)
    return loss


TARGET = torch.tensor([0, 3, 1, 4, -1, 2, 2])  # of 4 classes: 4 and -1 are background


@pytest.mark.parametrize(('gamma', 'alpha'), [(2., .25), (0., .5), (1.5, .75)])
def test_sigmoid_focal_loss_equals_the_formula_and_its_gradient(gamma, alpha):
    logits = 3 * torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(focal_loop(logits.numpy(), TARGET.numpy(), gamma, alpha))
    for reduction, wanted in (('none', expected), ('sum', expected.sum()), ('mean', expected.sum() / 7)):
        def loss(x: torch.Tensor, reduction: str = reduction) -> torch.Tensor:
            return mmcv.ops.sigmoid_focal_loss(x, TARGET, gamma, alpha, None, reduction)

        assert_close(loss(logits), wanted)
        assert_close(loss(logits.float()), wanted.float())
        assert torch.autograd.gradcheck(loss, logits.clone().requires_grad_())


def test_sigmoid_focal_loss_is_exact_at_extreme_logits():
    logits = torch.tensor([[200., -200.], [200., -200.]], requires_grad=True)
    loss = mmcv.ops.sigmoid_focal_loss(logits, torch.tensor([0, 1]), 2., .25, None, 'none')
    assert_close(loss, torch.tensor([[0., 0.], [150., 50.]]))
    assert_close(torch.autograd.grad(loss.sum(), logits)[0], torch.tensor([[0., 0.], [.75, -.25]]))


@pytest.mark.parametrize('dtype', HALVES)
def test_sigmoid_focal_loss_of_halves_is_rounded_once(dtype):
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with torch.autocast('cpu', dtype=dtype):
        loss = mmcv.ops.sigmoid_focal_loss(logits, TARGET, 2., .25, None, 'none')
    wide = logits.detach().float().requires_grad_()
    expected = mmcv.ops.sigmoid_focal_loss(wide, TARGET, 2., .25, None, 'none')
    assert_close(loss, expected.to(dtype), rtol=0, atol=0)
    assert_close(torch.autograd.grad(loss.sum(), logits)[0], torch.autograd.grad(expected.sum(), wide)[0].to(dtype),
                 rtol=0, atol=0)


# ---- deformable attention

def attention_loop(value: np.ndarray, shapes: list[tuple[int, int]], locations: np.ndarray,
                   weights: np.ndarray) -> np.ndarray:
    """Equation 3 of Zhu et al., ICLR 2021: weighted bilinear samples of all levels, zero outside of a level."""
    images, queries, heads, levels, points, _ = locations.shape
    output = np.zeros((images, queries, heads, value.shape[-1]))
    starts = np.cumsum([0] + [h * w for h, w in shapes])
    for b, q, m, level, k in np.ndindex(images, queries, heads, levels, points):
        h, w = shapes[level]
        x, y = locations[b, q, m, level, k] * (w, h) - .5
        for d in range(value.shape[-1]):
            plane = np.pad(value[b, starts[level]:starts[level + 1], m, d].reshape(h, w), 1)
            output[b, q, m, d] += weights[b, q, m, level, k] * bilinear(plane, y + 1, x + 1)
    return output.reshape(images, queries, -1)


def test_deformable_attention_equals_the_loop_and_finite_differences():
    shapes = [(4, 3), (2, 2)]
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 16, 2, 3, dtype=torch.float64, generator=generator)
    locations = torch.rand(2, 5, 2, 2, 3, 2, dtype=torch.float64, generator=generator) * .9 + .05
    weights = torch.rand(2, 5, 2, 2, 3, dtype=torch.float64, generator=generator)

    def attention(value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        # On the CPU mmcv's module does not call the op, the function under it does.
        return mmcv.ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(
            value, torch.tensor(shapes), torch.tensor([0, 12]), locations, weights, 64)

    expected = torch.from_numpy(attention_loop(value.numpy(), shapes, locations.numpy(), weights.numpy()))
    assert_close(attention(value, locations, weights), expected)
    inputs = [tensor[:1, :2].clone().requires_grad_() for tensor in (locations, weights)]
    assert torch.autograd.gradcheck(attention, (value[:1].clone().requires_grad_(), *inputs))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = attention(value.bfloat16(), locations, weights)
    assert_close(half, expected.bfloat16(), rtol=.05, atol=.05)


# ---- ops without a replacement

def test_every_name_of_mmcv_ops_can_be_imported():
    assert [name for name in mmcv.ops.__all__ if not hasattr(mmcv.ops, name)] == []


def test_missing_op_raises_with_its_name_when_called():
    features = torch.zeros(1, 1, 4, 4)
    convolution = mmcv.ops.DeformConv2d(1, 1, 3, padding=1)
    with pytest.raises(OpNotCompiledError, match=re.escape('deform_conv_forward of mmcv.ops needs')):
        convolution(features, torch.zeros(1, 18, 4, 4))
    with pytest.raises(OpNotCompiledError, match="pool_mode='max'"):
        mmcv.ops.RoIAlign((2, 2), pool_mode='max')(features, torch.zeros(1, 5))
    with pytest.raises(OpNotCompiledError, match='sigmoid_focal_loss with class weights'):
        mmcv.ops.SigmoidFocalLoss(2., .25, weight=torch.ones(4))(torch.zeros(7, 4), TARGET)


def test_compiler_version_names_the_stand_ins():
    assert 'replacements' in mmcv.ops.get_compiler_version()
    assert 'replacements' in mmcv.ops.get_compiling_cuda_version()


def test_private_names_raise_attribute_error():
    with pytest.raises(AttributeError, match='__path__'):
        mmcv._ext.__path__  # noqa: B018
