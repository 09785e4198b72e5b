"""Settings of a segmenter: resizing, crop, losses, test in windows or on whole images, schedule."""
import math
from typing import Any

import numpy as np

from mae_backbone.formats.label_maps import class_weights
from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Plan, PlanOptions, Stage
from mae_backbone.planning.rules import training
from mae_backbone.planning.rules.detection import InputSize
from mae_backbone.planning.rules.encoder import Encoder, dense_backbone, dense_neck, dense_patch_size
from mae_backbone.planning.rules.lengths import clamp, estimated_step, set_length, validation_interval
from mae_backbone.planning.rules.pixels import Pixels, choose_pixels

_RARE = 0.05        # Dice loss is added if a smaller fraction of the pixels is not of the most frequent class
_IMBALANCE = 10.0   # classes are weighted if the most frequent one has more times the pixels of the rarest one
_MAX_LONG_SIDE = 512  # on a CPU, long side in pixels to which larger images are reduced
_CROPS = {'cpu': 256, '8gb': 512, '24gb': 512, '80gb': 640}  # side of the crop in pixels
_WHOLE = 2.0        # images are tested as a whole if their long side is at most this multiple of the crop


def choose_input(stage: Stage, fingerprint: Fingerprint, encoder: Encoder) -> InputSize:
    """Chooses how images are resized and cropped, and adds the choices to the stage."""
    long_side, short = fingerprint.long_side['50'], fingerprint.short_side['10']
    crop, multiple = _CROPS[encoder.tier], 64 if encoder.tier == 'cpu' else dense_patch_size(encoder)
    factor = 1.0
    if encoder.tier == 'cpu' and long_side > 1.25 * _MAX_LONG_SIDE:
        factor = float(f'{_MAX_LONG_SIDE / long_side:.2g}')
    if encoder.tier != 'cpu' and short > 4 * crop:
        factor = float(f'{4 * crop / short:.2g}')
    target = round(factor * long_side) if factor != 1.0 or encoder.tier != 'cpu' else None
    stage.choose('long side of images', target or 'as it is', f'the median image has a long side of {long_side:.0f}'
                 + (f'; at most {_MAX_LONG_SIDE} on a CPU' if encoder.tier == 'cpu' else
                    f'; a crop of {crop} shows a sixteenth of an image or more'),
                 OURS if target else 'docs/benchmarks.md: 1.5 times the size is worse after 970 iterations, CamVid, '
                 'one seed')
    crop = stage.choose('crop', min(crop, max(multiple, math.ceil(short * factor / multiple) * multiple)),
                        f'10 % of the images have a short side below {short * factor:.0f} in the input',
                        'mmsegmentation: 512 for ADE20K, Potsdam, LoveDA' if encoder.tier != 'cpu' else
                        'docs/benchmarks.md: better than 128 and 192 on CamVid in the same time')
    jitter = None if encoder.tier == 'cpu' else (0.5, 2.0)
    if jitter:
        stage.choose('scale jitter', jitter, 'a GPU is fast enough for it', 'mmsegmentation')
    else:
        stage.choose('scale jitter', 'none', 'a short training of a small encoder', 'docs/benchmarks.md: worse with it '
                     'after 1,000 and 2,000 iterations, CamVid, one seed')
    return InputSize(factor, target, crop, jitter)


def plan_segmentation(plan: Plan, fingerprint: Fingerprint, machine: Machine, options: PlanOptions, encoder: Encoder,
                      stage: Stage, size: InputSize) -> Stage:
    """Plans the training of a segmenter. `stage` has the choices of `choose_input`, which returned `size`."""
    plan.stages.append(stage)
    name = {'cpu': 'vit-micro', '8gb': 'vitdet-s', '24gb': 'vitdet-b', '80gb': 'vitdet-b'}[encoder.tier]
    stage.base = f'own/upernet_{name}_{encoder.tier}'
    pixels = choose_pixels(stage, fingerprint, encoder)
    losses = _losses(stage, plan, fingerprint)
    longest = fingerprint.long_side['95'] * size.factor
    whole = longest <= _WHOLE * size.crop or (encoder.tier == 'cpu' and longest <= 2 * _MAX_LONG_SIDE)
    stage.choose('test', 'whole images' if whole else f'windows of {size.crop}',
                 f'95 % of the images have a long side up to {longest:.0f} in the input, {longest / size.crop:.1f} '
                 'times the crop', 'windows with a stride of 2/3: mmsegmentation; threshold ours')
    batch, accumulation = training.effective_batch(stage, fingerprint, machine, encoder, options.train_step, 16,
                                                   'mmsegmentation: 16')
    stage.cost = options.train_step or estimated_step('segmentation', encoder, machine, batch=batch, side=size.crop)
    least = 500 if encoder.tier == 'cpu' else 5_000 * 16 // batch  # 500: configs/demo
    wanted = clamp(100 * fingerprint.num_train / batch, least, 40_000 * 16 / batch)
    iterations = set_length(stage, plan, encoder, wanted, f'100 epochs, between {least:,} and {40_000 * 16 // batch:,}',
                            '20,000 to 160,000 steps: mmsegmentation; bounds ours')
    lr = training.learning_rate(stage, encoder, 'segmentation', batch * accumulation)
    decay = training.layer_decay(stage, encoder, 'segmentation')
    interval = validation_interval(stage, machine, fingerprint)
    model: dict[str, Any] = dict(
        data_preprocessor=_padding(pixels, size, encoder),
        backbone=dense_backbone(encoder, size.crop) | pixels.in_channels,
        decode_head=dict(**_classes(fingerprint), loss_decode=losses),
        test_cfg=dict(mode='whole') if whole else dict(
            mode='slide', crop_size=(size.crop, size.crop), stride=(size.crop * 2 // 3,) * 2))
    if encoder.tier != 'cpu':
        model['auxiliary_head'] = _classes(fingerprint)
    model |= dense_neck(encoder)
    train, test = pipelines(size, pixels)
    stage.config = dict(
        model=model, train_pipeline=train, test_pipeline=test, batch=batch,
        sampling=training.sampling(stage, fingerprint),
        **training.schedule(stage, encoder, lr=lr, decay=decay, iterations=iterations, interval=interval,
                            accumulation=accumulation, batch=batch, kind='segmentation', metric='mIoU'))
    stage.config['custom_hooks'] = training.stopping(stage, machine, 'mIoU', accumulation)
    return stage


def _classes(fingerprint: Fingerprint) -> dict[str, int]:
    """Returns the number of classes of a head. For two classes, `out_channels` avoids a warning of mmseg."""
    count = len(fingerprint.classes)
    return dict(num_classes=count, out_channels=count) if count == 2 else dict(num_classes=count)


def _padding(pixels: Pixels, size: InputSize, encoder: Encoder) -> dict[str, Any]:
    """Returns settings of the data preprocessor: normalization, and padding of crops and test images."""
    settings = pixels.normalization('mae_backbone.BandSegDataPreprocessor')
    if encoder.tier != 'cpu':
        settings |= dict(size=(size.crop, size.crop), test_cfg=dict(size=(size.crop, size.crop)))
    elif dense_patch_size(encoder) != 8:
        settings |= dict(size_divisor=dense_patch_size(encoder), test_cfg=dict(size_divisor=dense_patch_size(encoder)))
    return settings


def _losses(stage: Stage, plan: Plan, fingerprint: Fingerprint) -> Any:
    counts, classes = np.array(fingerprint.class_counts, float), fingerprint.classes
    rarest = classes[int(np.argmin(np.where(counts > 0, counts, np.inf)))] if counts.any() else ''
    share = float(counts[counts > 0].min() / counts.sum()) if counts.any() else 1.0
    cross_entropy: dict[str, Any] = dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)
    missing = [name for name, count in zip(classes, fingerprint.class_counts, strict=True) if not count]
    if missing:
        plan.warnings.append(f'no pixel of the training set is labeled as {", ".join(missing[:5])}'
                             + (f' and {len(missing) - 5} other classes' if len(missing) > 5 else '')
                             + ': label some, otherwise the model cannot find them')
    if fingerprint.foreground < _RARE:  # 0 if more than half of the images show only the most frequent class
        stage.choose('loss', 'cross-entropy and 3 times Dice',
                     f'in the median image {fingerprint.foreground:.1%} of the pixels are not of the most frequent '
                     'class', 'mmsegmentation, U-Net on vessels: +0.4 to +1.7 Dice; threshold ours')
        return [dict(cross_entropy, loss_name='loss_ce'),
                dict(type='DiceLoss', loss_weight=3.0, loss_name='loss_dice')]
    if fingerprint.imbalance > _IMBALANCE:
        weights = [round(weight, 2) if weight >= 0.1 else float(f'{weight:.2g}') for weight in class_weights(counts)]
        stage.choose('class weights', weights, f'{rarest} has {share:.2%} of the pixels, the most frequent class '
                     f'{fingerprint.imbalance:,.0f} times as many',
                     'median frequency balancing: Eigen & Fergus, ICCV 2015; square root: docs/benchmarks.md, better '
                     'than no weights on CamVid')
        return dict(cross_entropy, class_weight=weights)
    stage.choose('loss', 'cross-entropy', f'the rarest class, {rarest}, has {share:.1%} of the pixels',
                 'mmsegmentation')
    return cross_entropy


def pipelines(size: InputSize, pixels: Pixels) -> tuple[list[dict], list[dict]]:
    """Returns the training and test pipelines. Color augmentation is used only for color images."""
    load = pixels.loading
    colors = [] if pixels.has_bands else [dict(type='PhotoMetricDistortion')]
    resize: list[dict] = []
    if size.long_side:
        resize = [dict(type='Resize', scale=(size.long_side, size.long_side), keep_ratio=True)]
    vary = [dict(type='RandomResize', scale=(size.long_side, size.long_side), ratio_range=size.jitter, keep_ratio=True)
            ] if size.jitter and size.long_side else resize
    train = [load, dict(type='LoadAnnotations'), *vary, dict(type='RandomFlip', prob=0.5),
             dict(type='RandomCrop', crop_size=(size.crop, size.crop), cat_max_ratio=0.75),
             *colors, dict(type='PackSegInputs')]
    return train, [load, *resize, dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
