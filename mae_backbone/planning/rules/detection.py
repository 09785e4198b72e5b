"""Settings of a detector: boxes or masks, size of the input, anchors, numbers of objects, schedule."""
import math
from typing import Any, NamedTuple

import numpy as np

from mae_backbone.planning.anchors import anchor_sizes, coverage, fit_anchors
from mae_backbone.planning.data_settings import MAX_CUT
from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.object_statistics import ObjectStatistics
from mae_backbone.planning.plan import OURS, Plan, PlanOptions, Stage
from mae_backbone.planning.rules import training
from mae_backbone.planning.rules.encoder import GIGABYTE, Encoder, dense_backbone, dense_neck, dense_patch_size
from mae_backbone.planning.rules.lengths import clamp, estimated_step, set_length, validation_interval
from mae_backbone.planning.rules.pixels import choose_pixels

MIN_SIDE = 8.0           # smallest 10th percentile of the object sizes in the input, in pixels: one patch of 8
_MIN_LONG_SIDE = 320     # long side in pixels below which images are not reduced on a CPU
# On a CPU, the crop is the smallest of these sizes in pixels that is 2.5 times the 95th percentile of the object sizes.
# In the same time, smaller crops allow more iterations, but cut more objects (docs/benchmarks.md).
_CROPS = (128, 192, 256, 320)
_CROP = 2.5
_SIZES = (512, 640, 800, 1024)
_MAX_SIZE = {'8gb': 640, '24gb': 800, '80gb': 1024}
_BASE_SIZE = {'8gb': 512, '24gb': 640, '80gb': 800}
_KEPT = 0.98             # smallest fraction of boxes that fit the anchors of the base config without a change
_MANY = 5_000            # with more images, large-scale jitter has the range of the COCO recipes
_TEST_BYTES = 300        # memory in bytes for each pixel of a test image: measured for ViT-micro at 512 pixels on a CPU
_CROWDED = 0.01          # with a larger fraction of crowded objects, non-maximum suppression keeps more boxes


class InputSize(NamedTuple):
    """Resizing and cropping of the images.

    Attributes:
        factor: factor by which a median image is resized.
        long_side: size of the long side after resizing; None if all images are resized by `factor`.
        crop: side of the training input in pixels.
        jitter: range of random resize factors; None for no jitter.
    """

    factor: float
    long_side: int | None
    crop: int
    jitter: tuple[float, float] | None


def choose_input(stage: Stage, plan: Plan, fingerprint: Fingerprint, encoder: Encoder) -> InputSize:
    """Chooses how images are resized and cropped, and adds the choices to the stage."""
    objects = fingerprint.objects
    assert objects is not None, 'a detection set without objects is refused earlier'
    if encoder.tier == 'cpu':
        return _small_input(stage, fingerprint, objects)
    return _large_input(stage, plan, fingerprint, objects, encoder)


def _small_input(stage: Stage, fingerprint: Fingerprint, objects: ObjectStatistics) -> InputSize:
    """Chooses the input on a CPU: images are resized until small objects have 8 pixels, and then cropped."""
    side, long_side = objects.sides['10'], fingerprint.long_side['50']
    factor = min(2.0, MIN_SIDE / side) if side < MIN_SIDE else min(1.0, max(MIN_SIDE / side,
                                                                            _MIN_LONG_SIDE / long_side))
    factor = 1.0 if 0.8 <= factor <= 1.25 else float(f'{factor:.2g}')
    same = _varies_less_in_pixels(objects)
    target = None if same or factor == 1.0 else round(factor * long_side)
    reason = (f'the 10th percentile of the objects is {side:.0f} pixels, and {side * factor:.0f} in the input '
              f'(target: {MIN_SIDE:.0f}); the median image has a long side of {long_side:.0f}')
    if target:
        stage.choose('long side of images', target, reason + '; object sizes vary less relative to the image', OURS)
    else:
        checked = 'docs/benchmarks.md: better than half and twice the factor on blood cells, one seed'
        stage.choose('factor of images', factor, reason, checked if factor < 1.0 else OURS)  # enlarging was not tried
    largest, sides = objects.sides['95'] * factor, fingerprint.short_side['50'] * factor
    crop = next((size for size in _CROPS
                 if size >= _CROP * largest and _fraction_within(objects, size / factor) >= 1 - MAX_CUT), _CROPS[-1])
    crop = min(crop, max(64, math.ceil(sides / 64) * 64))
    stage.choose('crop', crop, f'contains {_fraction_within(objects, crop / factor):.0%} of the objects as a whole; '
                 f'their 95th percentile is {largest:.0f} pixels in the input, {largest / crop:.0%} of the crop',
                 'docs/benchmarks.md: measured on nuclei and blood cells, two seeds')
    return InputSize(factor, target, crop, None)


def _large_input(stage: Stage, plan: Plan, fingerprint: Fingerprint, objects: ObjectStatistics,
                 encoder: Encoder) -> InputSize:
    """Chooses the input on a GPU: the smallest of the usual sizes at which small objects have 8 pixels."""
    base, largest, long_side = _BASE_SIZE[encoder.tier], _MAX_SIZE[encoder.tier], fingerprint.long_side['50']
    relative = objects.relative_sides['10']
    size = next((size for size in _SIZES if size >= base and relative * size >= MIN_SIDE), largest)
    size = min(size, largest)
    stage.choose('input size', size,
                 f'the 10th percentile of the objects is {relative:.1%} of the long side, {relative * size:.0f} of '
                 f'{size} pixels; the limit for {encoder.tier} is {largest}', 'sizes: RF-DETR, ViTDet; 8 pixels ours')
    small = float(np.mean([math.sqrt(row[0] * row[1]) / max(row[2:]) * size < MIN_SIDE for row in objects.boxes]))
    if relative * size < MIN_SIDE and long_side > 2 * size:
        stage.choose('tiles', size, f'{small:.0%} of the objects are below {MIN_SIDE:.0f} pixels at {size}, and images '
                     f'have a long side of {long_side:.0f}: training cuts crops of {size} from the full image',
                     'SAHI, slices of 512 with an overlap of 0.2; thresholds ours')
        plan.warnings.append(f'{small:.0%} of the objects are below {MIN_SIDE:.0f} pixels at an input of {size}: the '
                             f'plan trains on crops of {size} of the full images. Predict with --tile {size}')
        return InputSize(1.0, None, size, None)
    if small > 0.2:
        plan.warnings.append(f'{small:.0%} of the objects are below {MIN_SIDE:.0f} pixels at an input of {size}')
    many = fingerprint.num_train > _MANY
    jitter = stage.choose('scale jitter', (0.1, 2.0) if many else (0.5, 1.5),
                          f'{fingerprint.num_train:,} images', 'ViTDet: 0.1 to 2.0' if many else OURS)
    return InputSize(size / long_side, size, size, jitter)


def plan_detection(plan: Plan, fingerprint: Fingerprint, machine: Machine, options: PlanOptions, encoder: Encoder,
                   stage: Stage, size: InputSize) -> Stage:
    """Plans the training of a detector. `stage` has the choices of `choose_input`, which returned `size`."""
    objects = fingerprint.objects
    assert objects is not None
    plan.stages.append(stage)
    masks = stage.choose('masks', objects.has_masks,
                         'all objects have a mask' if objects.has_masks else 'objects without a mask',
                         'Mask R-CNN, table 3: masks add 1 box AP')
    stage.base = _base(encoder, masks)
    stage.choose('detector', 'Mask R-CNN' if masks else 'Faster R-CNN', 'the detector of ViTDet, with a known recipe '
                 'for few images', 'detectron2 ViTDet')
    pixels = choose_pixels(stage, fingerprint, encoder)
    generator, anchors = _anchors(stage, objects, size, encoder), {}
    if generator:
        anchors = dict(rpn_head=dict(anchor_generator=generator))
    maximum = clamp(math.ceil(1.5 * objects.per_image['99.9'] / 50) * 50, 100, 2000)
    maximum = stage.choose('detections in an image', maximum, f'99.9 % of the images have up to '
                           f'{objects.per_image["99.9"]:.0f} objects', 'COCO: 100; LVIS: 300; factor 1.5 ours')
    least = 1000 if encoder.tier != 'cpu' else 500
    proposals = stage.choose('proposals', max(least, 2 * maximum),
                             f'twice the {maximum} detections, at least {least:,}',
                             'docs/benchmarks.md: as good as half of them on nuclei, better than a quarter')
    crowded = objects.crowded > _CROWDED
    nms = stage.choose('IoU of suppression', 0.6 if crowded else 0.5,
                       f'{objects.crowded:.1%} of the objects have an IoU above 0.5 with another of their class',
                       OURS if crowded else 'Faster R-CNN')
    batch, accumulation = training.effective_batch(stage, fingerprint, machine, encoder, options.train_step,
                                                   16, 'RF-DETR, docs/learn/train: 16')
    stage.cost = options.train_step or estimated_step('detection', encoder, machine, batch=batch, side=size.crop)
    least = 600 if encoder.tier == 'cpu' else 3_000 * 16 // batch  # 600: configs/demo
    wanted = clamp(100 * fingerprint.num_train / batch, least, 30_000 * 16 / batch)
    iterations = set_length(stage, plan, encoder, wanted, f'100 epochs, between {least:,} and {30_000 * 16 // batch:,}',
                            '100 epochs: ViTDet, RF-DETR; bounds ours')
    lr = training.learning_rate(stage, encoder, 'detection', batch * accumulation)
    decay = training.layer_decay(stage, encoder, 'detection')
    interval = validation_interval(stage, machine, fingerprint)
    metric = 'coco/segm_mAP' if masks else 'coco/bbox_mAP'
    roi: dict[str, Any] = dict(nms=dict(type='nms', iou_threshold=nms), max_per_img=maximum)
    model: dict[str, Any] = dict(
        data_preprocessor=dict(**pixels.normalization('mae_backbone.BandDataPreprocessor'), **(
            {} if dense_patch_size(encoder) == 8 else dict(pad_size_divisor=size.crop))),
        backbone=dense_backbone(encoder, size.crop) | pixels.in_channels, **anchors,
        test_cfg=dict(rpn=dict(nms_pre=max(1000, 2 * proposals) if encoder.tier != 'cpu' else 1000,
                               max_per_img=proposals), rcnn=roi))
    model |= dense_neck(encoder)
    _warn_of_large_tests(plan, fingerprint, machine, size)
    evaluator: dict[str, Any] = dict(proposal_nums=(100, 300, max(maximum, 301)))
    if len(fingerprint.classes) > 1:
        evaluator['classwise'] = stage.choose('AP of each class', True, f'{len(fingerprint.classes)} classes',
                                              'a table for the user, without effect on the training')
    train, test = pipelines(size, masks=masks, load=pixels.loading)
    stage.config = dict(
        model=model, train_pipeline=train, test_pipeline=test, train_dataset=_train_dataset(stage, fingerprint),
        batch=batch, sampling=training.sampling(stage, fingerprint), evaluator=evaluator,
        **training.schedule(stage, encoder, lr=lr, decay=decay, iterations=iterations, interval=interval,
                            accumulation=accumulation, batch=batch, kind='detection', metric=metric))
    stage.config['custom_hooks'] = training.stopping(stage, machine, metric, accumulation)
    return stage


def _warn_of_large_tests(plan: Plan, fingerprint: Fingerprint, machine: Machine, size: InputSize) -> None:
    """Warns if whole images, which validations and tests read, do not fit into the memory."""
    long_side, short = fingerprint.long_side['95'], fingerprint.short_side['95']
    factor = size.long_side / long_side if size.long_side else size.factor
    needed = _TEST_BYTES * long_side * short * factor ** 2
    if needed > machine.memory:
        plan.warnings.append(f'validations and tests read whole images, up to {long_side * factor:,.0f}x'
                             f'{short * factor:,.0f} pixels in the input, which take about {needed / GIGABYTE:,.0f} GB '
                             f'of {machine.memory / GIGABYTE:.1f} GB: cut the images and their labels into smaller '
                             'images before the training')


def _base(encoder: Encoder, masks: bool) -> str:
    name = {'cpu': 'vit-micro', '8gb': 'vitdet-s', '24gb': 'vitdet-b', '80gb': 'vitdet-b'}[encoder.tier]
    return f'own/{"mask" if masks else "faster"}-rcnn_{name}_{encoder.tier}'


def _varies_less_in_pixels(objects: ObjectStatistics) -> bool:
    """True if object sizes vary less in pixels of the files than as fractions of the image size.

    In this case all images are resized by the same factor, otherwise to the same long side.
    """
    sizes = np.array(objects.boxes)
    sides = np.sqrt(np.maximum(sizes[:, 0] * sizes[:, 1], 1e-6))
    return bool(np.log(sides).std() <= np.log(sides / sizes[:, 2:].max(axis=1)).std() + 1e-9)


def _fraction_within(objects: ObjectStatistics, side: float) -> float:
    sizes = np.array(objects.boxes)[:, :2]
    return float((sizes.max(axis=1) <= side).mean())


def _scaled_boxes(objects: ObjectStatistics, size: InputSize) -> np.ndarray:
    """Returns height and width (N, 2) of the boxes in the resized images, in pixels."""
    boxes = np.array(objects.boxes)
    factors = size.long_side / boxes[:, 2:].max(axis=1) if size.long_side else np.full(len(boxes), size.factor)
    return boxes[:, :2] * factors[:, None]


def _anchors(stage: Stage, objects: ObjectStatistics, size: InputSize, encoder: Encoder) -> dict[str, Any]:
    """Returns settings of the anchors for the config; empty if the anchors of the base config fit."""
    strides, scale = ([4.0, 8.0, 16.0, 32.0], 3.0) if encoder.tier == 'cpu' else ([4.0, 8.0, 16.0, 32.0, 64.0], 8.0)
    ratios = [0.5, 1.0, 2.0]
    boxes = _scaled_boxes(objects, size)
    covered = coverage(boxes, anchor_sizes(strides, [scale], ratios))
    rule = 'YOLOv5, autoanchor.py: kept if 98 % of the boxes have sides within 4 times an anchor'
    if covered >= _KEPT:
        stage.choose('anchors', dict(scales=[scale], ratios=ratios), f'they fit {covered:.1%} of the boxes', rule)
        return {}
    (best, shapes), fitted = fit_anchors(strides, ratios, boxes)
    if fitted <= covered:
        stage.choose('anchors', dict(scales=[scale], ratios=ratios), f'they fit {covered:.1%} of the boxes, and no '
                     'other scale fits more', rule)
        return {}
    return dict(stage.choose('anchors', dict(scales=[best], ratios=shapes),
                             f'they fit {fitted:.1%} of the boxes, the anchors of the base {covered:.1%}', rule))


def _train_dataset(stage: Stage, fingerprint: Fingerprint) -> dict[str, Any]:
    objects = fingerprint.objects
    if objects is None or not objects.empty_images:
        return {}
    kept = stage.choose('images without objects', 'background' if objects.empty_images <= 0.1 else 'left out',
                        f'{objects.empty_images:.0%} of the images', 'YOLOv5, tips for training: 0 to 10 %')
    return dict(filter_cfg=dict(filter_empty_gt=kept != 'background'))


def pipelines(size: InputSize, *, masks: bool, load: dict[str, Any]) -> tuple[list[dict], list[dict]]:
    """Returns the training and test pipelines. `load` is the transform that loads images."""
    annotations: dict[str, Any] = dict(type='LoadAnnotations', with_bbox=True)
    if masks:
        annotations['with_mask'] = True
    crop: dict[str, Any] = dict(type='RandomCrop', crop_type='absolute', crop_size=(size.crop, size.crop),
                                allow_negative_crop=True)
    if masks:
        crop['recompute_bbox'] = True
    resize: list[dict] = []
    test: dict[str, Any] = dict(type='Resize', scale_factor=size.factor, keep_ratio=True)
    if size.long_side:
        scale = (size.long_side, size.long_side)
        test = dict(type='Resize', scale=scale, keep_ratio=True)
        resize = [test] if size.jitter is None else [
            dict(type='RandomResize', scale=scale, ratio_range=size.jitter, keep_ratio=True)]
    elif size.factor != 1.0:
        resize = [test]
    train = [load, annotations, dict(type='RandomFlip', prob=0.5), *resize, crop,
             dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
             dict(type='PackDetInputs')]
    return train, [load, test, annotations, dict(
        type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
