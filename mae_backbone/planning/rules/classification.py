"""Settings of a classifier: probe, partial or full tuning by the number of labels, size of the images, schedule."""
from typing import Any

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Plan, PlanOptions, Stage
from mae_backbone.planning.rules.encoder import Encoder
from mae_backbone.planning.rules.lengths import clamp, estimated_step, set_length, validation_interval
from mae_backbone.planning.rules.pixels import choose_pixels
from mae_backbone.planning.rules.training import effective_batch, layer_decay, learning_rate, schedule, stopping

_PROBE, _PARTIAL = 200, 1000  # labels below which only the head, or only the last blocks, are trained
_FULL_PIXELS = 48             # long side of images that are not resized but by their own size
METRIC = 'accuracy/top1'
_MIXED = 1000                 # labels from which images are mixed


def plan_classification(plan: Plan, fingerprint: Fingerprint, machine: Machine, options: PlanOptions,
                        encoder: Encoder) -> Stage:
    """Plans the training of a classifier."""
    stage = Stage('classification', {'cpu': 'own/vit-micro_cpu', '8gb': 'own/vit-s_8gb', '24gb': 'own/vit-b_24gb',
                                     '80gb': 'own/vit-b_80gb'}[encoder.tier])
    plan.stages.append(stage)
    pixels = choose_pixels(stage, fingerprint, encoder)
    labels = fingerprint.num_labeled
    size, patch = _sizes(stage, fingerprint, encoder)
    tuned = _tuning(stage, encoder, labels)
    probe = tuned == 'head'
    batch, accumulation = effective_batch(stage, fingerprint, machine, encoder, options.train_step,
                                          clamp(labels // 20, 16, 256), '5 % of the images at most: nnU-Net')
    stage.cost = options.train_step or estimated_step('classification', encoder, machine, batch=batch, side=size)
    wanted = clamp(100 * labels / batch, 500, 100_000)
    iterations = set_length(stage, plan, encoder, wanted, '100 epochs, at least 500 iterations',
                            '100 epochs: MAE, FINETUNE.md; bounds ours')
    lr = learning_rate(stage, encoder, 'classification', batch * accumulation, probe=probe)
    decay = 1.0 if probe else layer_decay(stage, encoder, 'classification')
    interval = validation_interval(stage, machine, fingerprint)
    backbone: dict[str, Any] = dict(arch=encoder.config_arch, image_size=size, patch_size=patch)
    if encoder.weights is not None:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=encoder.weights.path)
    elif encoder.tier != 'cpu':
        backbone['init_cfg'] = None
    model: dict[str, Any] = dict(
        backbone=backbone, num_classes=len(fingerprint.classes),
        data_preprocessor=dict(mean=pixels.mean, std=pixels.std))
    if probe:
        model |= dict(probe=True, label_smoothing=0.0)
    elif tuned != 'all':
        model['tuned_blocks'] = int(tuned.split()[0])
    if (labels < _MIXED and encoder.tier != 'cpu') or probe:
        model |= dict(mixup=None, random_erasing=0.0)
        backbone['drop_path_rate'] = 0.0
        stage.choose('mixing of images', 'none', f'{labels:,} labels' if not probe else 'only the head is trained',
                     'MAE-Lite: no mixing for few labels; threshold ours')
    dataset: dict[str, Any] = dict(image_size=size)
    if pixels.scaling:
        dataset['reader'] = dict(type='mae_backbone.ColorReader', **pixels.scaling)
    if fingerprint.imbalance > 10:
        plan.warnings.append(f'the most frequent class has {fingerprint.imbalance:,.0f} times the images of the rarest '
                             'one: look at the results of each class, not only at the accuracy')
    stage.config = dict(
        model=model, dataset=dataset, batch=batch,
        **schedule(stage, encoder, lr=lr, decay=decay, iterations=iterations, interval=interval,
                   accumulation=accumulation, batch=batch, kind='classification', metric=METRIC))
    stage.config['custom_hooks'] = [dict(type='mae_backbone.ConfusionHook'), *stopping(stage, machine, METRIC)]
    return stage


def _sizes(stage: Stage, fingerprint: Fingerprint, encoder: Encoder) -> tuple[int, int]:
    """Side of the images and of the patches."""
    side = fingerprint.short_side['50']
    if encoder.name != 'micro':
        size = 224 if encoder.tier != 'cpu' or encoder.patch_size > 14 else 16 * encoder.patch_size
        return int(stage.choose('image size', size, 'the size of the pretraining of the weights',
                                'MAE, main_finetune.py')), encoder.patch_size
    size = 32 if fingerprint.long_side['50'] <= _FULL_PIXELS else 64 if side < 160 else 96
    stage.choose('image size', size, f'the median image has a short side of {side:.0f} pixels; on a CPU at most 96',
                 OURS)
    stage.choose('patch size', encoder.patch_size, f'{(size // encoder.patch_size) ** 2} patches; that of the '
                 'pretraining', OURS)
    return size, encoder.patch_size


def _tuning(stage: Stage, encoder: Encoder, labels: int) -> str:
    """What is trained: 'head', 'N blocks' or 'all'."""
    source = 'ultralytics, finetuning-guide: the fewer images, the more is frozen; thresholds ours'
    if encoder.frozen:
        return str(stage.choose('trained part', 'head', 'the encoder is frozen', OURS))
    if encoder.weights is None and encoder.name == 'micro':
        return str(stage.choose('trained part', 'all', f'{labels:,} labels; features of an own pretraining need tuning',
                                'MAE, figure 9: partial tuning gains much'))
    if labels < _PROBE:
        return str(stage.choose('trained part', 'head', f'{labels:,} labels', source))
    if labels < _PARTIAL:
        blocks = max(1, encoder.depth // 3)
        return str(stage.choose('trained part', f'{blocks} blocks', f'{labels:,} labels', source))
    return str(stage.choose('trained part', 'all', f'{labels:,} labels', source))
