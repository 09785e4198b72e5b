"""Settings of a classifier: size of the images, batch, schedule, and augmentations."""
from typing import Any

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Plan, PlanOptions, Stage
from mae_backbone.planning.rules import training
from mae_backbone.planning.rules.encoder import Encoder, trained_part
from mae_backbone.planning.rules.lengths import clamp, estimated_step, set_length, validation_interval
from mae_backbone.planning.rules.pixels import choose_pixels

_FULL_PIXELS = 48             # if the median long side is at most this, in pixels, the input has 32 pixels
METRIC = 'accuracy/top1'
_MIXED = 1000                 # smallest number of labeled images for Mixup, CutMix and random erasing


def plan_classification(plan: Plan, fingerprint: Fingerprint, machine: Machine, options: PlanOptions,
                        encoder: Encoder) -> Stage:
    """Plans the training of a classifier."""
    stage = Stage('classification', {'cpu': 'own/vit-micro_cpu', '8gb': 'own/vit-s_8gb', '24gb': 'own/vit-b_24gb',
                                     '80gb': 'own/vit-b_80gb'}[encoder.tier])
    plan.stages.append(stage)
    pixels = choose_pixels(stage, fingerprint, encoder)
    labels = fingerprint.num_labeled
    size, patch = _sizes(stage, fingerprint, encoder)
    probe = encoder.frozen
    batch, accumulation = training.effective_batch(stage, fingerprint, machine, encoder, options.train_step,
                                                   clamp(labels // 20, 16, 256), 'at most 5 % of the images: nnU-Net')
    stage.cost = options.train_step or estimated_step('classification', encoder, machine, batch=batch, side=size)
    wanted = clamp(100 * labels / batch, 500, 100_000)
    iterations = set_length(stage, plan, encoder, wanted, '100 epochs, at least 500 iterations',
                            '100 epochs: MAE, FINETUNE.md; bounds ours')
    lr = training.learning_rate(stage, encoder, 'classification', batch * accumulation, probe=probe)
    decay = 1.0 if probe else training.layer_decay(stage, encoder, 'classification')
    interval = validation_interval(stage, machine, fingerprint)
    backbone: dict[str, Any] = dict(arch=encoder.config_arch, image_size=size, patch_size=patch, **pixels.in_channels)
    if encoder.weights is not None:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=encoder.weights.path)
    elif encoder.tier != 'cpu':
        backbone['init_cfg'] = None
    model: dict[str, Any] = dict(
        backbone=backbone, num_classes=len(fingerprint.classes),
        data_preprocessor=(dict(_delete_=True, type='mae_backbone.PixelPreprocessor') if pixels.channels != 3 else {})
        | dict(mean=pixels.mean, std=pixels.std))
    if probe:
        model |= dict(probe=True, label_smoothing=0.0)
    elif encoder.tuned == 'last':
        model['tuned_blocks'] = encoder.tuned_blocks
    elif encoder.tuned == 'lora':
        backbone |= trained_part(encoder)
    if (labels < _MIXED and encoder.tier != 'cpu') or probe:
        model |= dict(mixup=None, random_erasing=0.0)
        backbone['drop_path_rate'] = 0.0
        stage.choose('mixing of images', 'none', f'{labels:,} labels' if not probe else 'only the head is trained',
                     'MAE-Lite: no mixing for few labels; threshold ours')
    dataset: dict[str, Any] = dict(image_size=size)
    if pixels.reader:
        dataset['reader'] = dict(pixels.reader)
    if fingerprint.imbalance > 10:
        plan.warnings.append(f'the most frequent class has {fingerprint.imbalance:,.0f} times as many images as the '
                             'rarest class: look at the results of each class, not only at the accuracy')
    stage.config = dict(
        model=model, dataset=dataset, batch=batch, sampling=training.sampling(stage, fingerprint),
        **training.schedule(stage, encoder, lr=lr, decay=decay, iterations=iterations, interval=interval,
                            accumulation=accumulation, batch=batch, kind='classification', metric=METRIC))
    stage.config['custom_hooks'] = [dict(type='mae_backbone.ConfusionHook'),
                                    *training.stopping(stage, machine, METRIC, accumulation)]
    return stage


def _sizes(stage: Stage, fingerprint: Fingerprint, encoder: Encoder) -> tuple[int, int]:
    """Returns the side of the images and the side of the patches in pixels."""
    side = fingerprint.short_side['50']
    if encoder.name != 'micro':
        size = 224 if encoder.tier != 'cpu' or encoder.patch_size > 14 else 16 * encoder.patch_size
        return int(stage.choose('image size', size, 'the image size of the pretrained weights',
                                'MAE, main_finetune.py')), encoder.patch_size
    size = 32 if fingerprint.long_side['50'] <= _FULL_PIXELS else 64 if side < 160 else 96
    stage.choose('image size', size, f'the median image has a short side of {side:.0f} pixels; at most 96 on a CPU',
                 OURS)
    stage.choose('patch size', encoder.patch_size, f'{(size // encoder.patch_size) ** 2} patches; same as in the '
                 'pretraining', OURS)
    return size, encoder.patch_size
