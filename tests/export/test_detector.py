"""Exported detectors find the objects that mmdet finds: same boxes, scores, labels and masks."""
import numpy as np
import pytest
import torch
from helpers.shrink import write_coco
from helpers.spread_detectors import Patches, mmdet_predictions, spread_detector

import mae_backbone.detection  # noqa: F401
from mae_backbone.export import onnx_file
from mae_backbone.export.detector import ExportedDetector
from mae_backbone.export.detector_target import objects_error
from mae_backbone.export.target import ExportError, ExportTarget, image_axes
from mae_backbone.prediction.onnx.paste import paste_mask
from mae_backbone.prediction.onnx.session import OnnxSession

HEADS = ('faster-rcnn_vitdet-b_100e_coco', 'mask-rcnn_vitdet-b_100e_coco', 'cascade-mask-rcnn_vitdet-b_100e_coco',
         'fcos_vitdet-b_25e_coco')
SIZES = ((66, 100), (128, 70), (80, 130))  # padded to multiples of 64, all of them to different sizes


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    write_coco(root)
    return root


def _expected(model, images):
    """Outputs of `ExportedDetector` without masks, and the masks of mmdet."""
    results = mmdet_predictions(model, images)
    image = torch.cat([torch.full((len(one),), i) for i, one in enumerate(results)])
    masks = [mask.numpy() for one in results if 'masks' in one for mask in one.masks]
    return [torch.cat([one[name] for one in results]) for name in ('bboxes', 'scores', 'labels')] + [image], masks


@pytest.mark.filterwarnings('ignore:torch.meshgrid')  # of mmdet's generator of points
@pytest.mark.parametrize('name', HEADS)
def test_finds_what_mmdet_finds(name, coco):
    model = spread_detector(name, coco)
    exported = ExportedDetector(model).eval()
    torch.manual_seed(5)
    for size in SIZES:
        for B in (1, 2):
            images = 2 * torch.randn(B, 3, *size)
            (boxes, scores, labels, image), masks = _expected(model, images)
            with torch.no_grad():
                outputs = exported(images)
            assert len(scores) > 10 * B
            assert len(labels.unique()) == 2
            torch.testing.assert_close(outputs[0], boxes, rtol=0, atol=1e-3)
            torch.testing.assert_close(outputs[1], scores, rtol=0, atol=1e-4)
            assert torch.equal(outputs[2], labels)
            assert torch.equal(outputs[3], image)
            assert len(outputs) == len(exported.output_names) == (5 if masks else 4)
            for mask, small, box in zip(masks, outputs[4] if masks else (), outputs[0], strict=False):
                region, top, left = paste_mask(small.numpy(), box.numpy(), size)
                pasted = np.zeros(size, bool)
                pasted[top:top + region.shape[0], left:left + region.shape[1]] = region
                assert (pasted != mask).mean() < 1e-3


@pytest.mark.slow  # torch.export needs half a minute for each; Faster R-CNN is a part of Mask R-CNN
@pytest.mark.filterwarnings('ignore:torch.meshgrid')
@pytest.mark.parametrize('name', HEADS[1:])
def test_onnxruntime_finds_what_mmdet_finds(name, coco, tmp_path):
    model = spread_detector(name, coco, backbone=Patches())  # the backbone has tests of its own
    exported = ExportedDetector(model).eval().requires_grad_(False)
    more = 64 if name.startswith('fcos') else 0  # its coarsest stride is 128
    target = ExportTarget(
        exported, (torch.randn(2, 3, 80 + more, 150 + more),), ('images',), exported.output_names,
        {'images': image_axes(batch=True, size=True, minimum=exported.minimum)})
    onnx_file.save(onnx_file.convert(target), {}, tmp_path / 'detector.onnx')
    session = OnnxSession(tmp_path / 'detector.onnx')
    torch.manual_seed(6)
    for H, W in SIZES:
        for B in (1, 2):
            images = 2 * torch.randn(B, 3, H + more, W + more)
            expected, _ = _expected(model, images)
            with torch.no_grad():
                in_torch = [one.numpy() for one in exported(images)]
            outputs = session([images.numpy()])
            assert len(outputs[1]) > 10 * B
            assert objects_error([one.numpy() for one in expected], outputs[:4]) < 1e-4
            assert objects_error(in_torch, outputs) < 1e-4  # masks, too


def test_detectors_without_a_graph_are_refused(coco):
    class DINO(torch.nn.Module):
        pass
    with pytest.raises(ExportError, match=r'DINO cannot be exported.*--part backbone'):
        ExportedDetector(DINO())
    model = spread_detector('mask-rcnn_vitdet-b_100e_coco', coco)
    model.roi_head.test_cfg.nms = dict(type='soft_nms', iou_threshold=0.5)
    with pytest.raises(ExportError, match='soft_nms'):
        ExportedDetector(model)
    model.roi_head.test_cfg.update(nms=dict(type='nms', iou_threshold=0.5), max_per_img=-1)
    with pytest.raises(ExportError, match='max_per_img=-1'):
        ExportedDetector(model)


def _objects(scores):
    n = len(scores)
    boxes = np.arange(4 * n, dtype=np.float32).reshape(n, 4)
    return [boxes, np.float32(scores), np.arange(n) % 2, np.zeros(n, np.int64)]


def test_objects_may_differ_in_order_and_at_the_threshold_only():
    objects = _objects([0.9, 0.8, 0.8, 0.05])
    assert objects_error(objects, objects) == 0
    swapped = [one[[0, 2, 1, 3]] for one in objects]
    assert objects_error(objects, swapped) == 0
    assert objects_error(objects, [one[:3] for one in objects]) == 0  # the last one is at the threshold
    assert objects_error([one[:3] for one in objects], objects) == 0
    assert objects_error(objects, [one[1:] for one in objects]) == float('inf')
    assert objects_error(objects, _objects([0.9, 0.8, 0.8, 0.07])) == float('inf')
    moved = [objects[0] + np.float32([[0.0015, 0, 0, 0]]), *objects[1:]]
    assert objects_error(objects, moved) == pytest.approx(1e-4, rel=0.01)
    wrong = [*objects[:2], 1 - objects[2], objects[3]]
    assert objects_error(objects, wrong) == float('inf')
    assert objects_error(objects, [objects[0] * np.nan, *objects[1:]]) == float('inf')


def test_objects_that_rounding_decides_on_may_differ():
    objects = _objects([0.9, 0.8, 0.7, 0.05])
    other = [one.copy() for one in objects]
    other[0][1] += 20  # another proposal, which suppresses its neighbors
    assert objects_error(objects, other) == float('inf')
    assert objects_error(objects, other, [objects, other]) == 0
    assert objects_error(objects, other, [objects]) == float('inf'), 'PyTorch never finds it'
    lost = [np.delete(one, 1, axis=0) for one in objects]
    assert objects_error(objects, lost) == float('inf')
    assert objects_error(objects, lost, [objects]) == float('inf')
    assert objects_error(objects, lost, [objects, lost]) == 0
    assert objects_error(lost, objects, [objects]) == 0
    third = [one.copy() for one in other]
    third[0][0] += 20
    assert objects_error(objects, third, [objects, other]) == float('inf')


@pytest.mark.filterwarnings('ignore:torch.meshgrid')
@pytest.mark.slow  # 17 predictions
def test_a_file_that_orders_equal_scores_otherwise_is_accepted(coco):
    """In a repeating pattern many proposals have equal scores. Rounding errors of a runtime put them in any order."""
    backbone = Patches()
    backbone.phases.zero_()
    exported = ExportedDetector(spread_detector('mask-rcnn_vitdet-b_100e_coco', coco, backbone=backbone))
    images = 2 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).repeat(1, 1, 8, 8)
    target = ExportTarget(exported.eval().requires_grad_(False), (images,), ('images',), exported.output_names,
                          compare=objects_error, decides=True)
    expected, (found, *trials) = target.expected(images), target.alternatives(images)
    assert len(expected[1]) > 10
    assert objects_error(expected, found) == float('inf')
    assert objects_error(expected, found, trials) < 2e-4
    wrong = [*found[:2], 1 - found[2], *found[3:]]
    assert objects_error(expected, wrong, trials) == float('inf')


def test_no_objects_agree():
    empty = [one[:0] for one in _objects([0.5])]
    assert objects_error(empty, empty) == 0
