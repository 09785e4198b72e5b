"""Settings that all tasks share: batch, learning rate, layer decay, schedule, early stopping."""
from typing import Any

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Stage, StepCost
from mae_backbone.planning.rules.encoder import GIGABYTE, Encoder

# By task and whether the training runs on a CPU: learning rate, the batch size for which it was published, and source.
_RATES: dict[tuple[str, bool], tuple[float, int, str]] = {
    ('detection', True): (1e-3, 4, 'docs/benchmarks.md: the best of 0.0005, 0.001 and 0.002 on two sets'),
    ('segmentation', True): (1e-3, 4, 'docs/benchmarks.md: the best of 0.001, 0.002 and 0.005 on CamVid'),
    ('classification', True): (1e-3, 128, 'configs/_base_/schedules/micro-classification_5e.py'),
    ('detection', False): (1e-4, 64, 'ViTDet: 1e-4 for 64 images'),
    ('segmentation', False): (1e-4, 16, 'MAE UPerNet: 1e-4 for 16 images'),
    ('classification', False): (2e-3, 1024, 'MAE, FINETUNE.md: 2e-3 for 1,024 images'),
}
_MEASURED = 'docs/benchmarks.md: 4 is better than 8 on nuclei and CamVid, one seed'
# By task: images per iteration on a CPU, and source.
_CPU_BATCH = {'detection': (4, _MEASURED), 'segmentation': (4, _MEASURED), 'classification': (128, 'configs/demo')}
_PROBE_RATE = 1e-2
PATIENCE = 3  # number of validations without a higher metric after which a training stops
_EMA = 0.007  # weight of a new step in the moving average of the weights, which covers about 1 / 0.007 = 140 steps
_RARE_RATIO, _RARE_IMAGES = 10, 100  # limits of a rare class, see `sampling`
_LEAST_REPEAT = 1.2  # smallest factor by which images of a rare class are drawn more often


def effective_batch(stage: Stage, fingerprint: Fingerprint, machine: Machine, encoder: Encoder,
                    step: StepCost | None, effective: int, source: str) -> tuple[int, int]:
    """Chooses the number of images per iteration, and the number of iterations per optimizer step.

    Args:
        stage: stage to which the choices are added.
        fingerprint: fingerprint of the data.
        machine: machine that runs the training.
        encoder: encoder of the plan.
        step: measured cost of an iteration with the largest batch that fits; None before the measurement.
        effective: number of images per optimizer step on a GPU.
        source: source of this number.

    Returns:
        Images per iteration, and iterations per optimizer step (`accumulative_counts`).
    """
    if encoder.tier == 'cpu':
        # Batch norm in the head of a segmenter cannot train on a single image. The sampler repeats images.
        least = 2 if stage.task == 'segmentation' else 1
        usual, measured = _CPU_BATCH[stage.task]
        wanted = min(usual, max(least, fingerprint.num_train // 2))
        batch = min(wanted, step.batch) if step else wanted
        reason = (f'more does not fit into {machine.memory / GIGABYTE:.1f} GB' if batch < wanted else
                  'on a CPU many small steps are better than few large ones' if batch == usual else
                  f'{fingerprint.num_train:,} images')
        stage.choose('batch', batch, reason, measured)
        return batch, 1
    batch = step.batch if step else 2
    batch = min(batch, effective)
    stage.choose('batch', batch, f'largest that fits {machine.name}' if step else 'before a measurement',
                 'ultralytics, autobatch.py; nnDetection: a measured step')
    accumulation = max(1, effective // batch)
    # An optimizer step never uses more batches than an epoch has. Otherwise there would be fewer steps than epochs.
    accumulation = min(accumulation, max(1, fingerprint.num_train // batch))
    stage.choose('accumulated batches', accumulation, f'{batch * accumulation} images for each step of the optimizer',
                 f'{source}; not more than the batches of an epoch: facebookresearch/mae#49')
    return batch, accumulation


def learning_rate(stage: Stage, encoder: Encoder, task: str, batch: int, *, probe: bool = False) -> float:
    """Chooses the highest learning rate of the schedule, scaled to `batch`, the images per optimizer step."""
    if probe:
        return float(stage.choose('learning rate', _PROBE_RATE, 'only the head is trained',
                                  'configs/demo/vit-micro_linear_cifar10.py'))
    base, base_batch, source = _RATES[task, encoder.tier == 'cpu']
    if encoder.tier == 'cpu' and encoder.weights is None:
        return float(stage.choose('learning rate', base, 'an encoder of 1.2 M parameters', source))
    ratio = batch / base_batch
    scaled = base * ratio if ratio >= 1 or task == 'classification' else base * ratio ** 0.5
    return float(stage.choose(
        'learning rate', float(f'{scaled:.3g}'), f'{batch} images in a step',
        source + ('' if ratio == 1 else '; linear: MAE' if task == 'classification' else
                  '; root of the batch: lightly-train')))


def layer_decay(stage: Stage, encoder: Encoder, task: str) -> float:
    """Chooses the factor by which the learning rate decreases from each block to the block before it."""
    if encoder.tuned in ('none', 'lora'):
        return float(stage.choose('layer decay', 1.0, 'the encoder is frozen' if encoder.frozen else
                                  'adapters start at zero in all blocks', OURS))
    if encoder.name == 'micro':
        return float(stage.choose('layer decay', 1.0, f'{encoder.depth} blocks', 'MAE-Lite: 1.0 for small encoders'))
    if encoder.width >= 1024:
        return float(stage.choose('layer decay', 0.8 if task == 'detection' else 0.75,
                                  f'{encoder.depth} blocks of width {encoder.width}', 'ViTDet-L; MAE, FINETUNE.md'))
    if encoder.width >= 768:
        return float(stage.choose('layer decay', 0.7 if task == 'detection' else 0.65,
                                  f'{encoder.depth} blocks of width {encoder.width}', 'ViTDet-B; MAE, FINETUNE.md'))
    return float(stage.choose('layer decay', 0.75, f'{encoder.depth} blocks of width {encoder.width}', OURS))


def sampling(stage: Stage, fingerprint: Fingerprint) -> dict[str, Any]:
    """Returns settings of the dataloader that draw images of rare classes more often; empty if no class is rare.

    A class is rare if fewer than 100 images show it, and if these are fewer than a tenth of the images that show the
    most frequent class.
    """
    shown = [fraction for fraction in fingerprint.class_images if fraction > 0]
    if len(shown) < 2:
        return {}
    most, least, images = max(shown), min(shown), max(1, fingerprint.num_labeled)
    threshold = float(f'{min(most / _RARE_RATIO, _RARE_IMAGES / images):.2g}')
    if least * _LEAST_REPEAT ** 2 > threshold:
        return {}
    name = fingerprint.classes[fingerprint.class_images.index(least)]
    stage.choose('sampling of rare classes', f'images of classes below {threshold:.2%} of the images are repeated',
                 f'{name} is in {least:.2%} of the images, the most frequent class in {most:.0%}: its images '
                 f'are drawn {(threshold / least) ** 0.5:.1f} times as often',
                 'LVIS: square root of threshold / frequency, 100 of 100,000 images; a tenth of the most frequent ours')
    return dict(sampler=dict(_delete_=True, type='mae_backbone.RepeatFactorSampler', threshold=threshold))


def schedule(stage: Stage, encoder: Encoder, *, lr: float, decay: float, iterations: int, interval: int,
             accumulation: int, batch: int, kind: str, metric: str) -> dict[str, Any]:
    """Returns settings of optimizer, learning rate schedule, training loop and checkpoints for the config."""
    warmup = stage.choose('warm-up', max(2, min(iterations // 12, 250 * accumulation)),
                          'a twelfth of the iterations, at most 250 steps', 'ViTDet: 250 steps; fraction ours')
    poly = kind == 'segmentation'
    end: dict[str, Any] = dict(begin=warmup, end=iterations, by_epoch=False)
    last = dict(type='PolyLR', power=1.0, eta_min=0.0, **end) if poly else dict(
        type='CosineAnnealingLR', T_max=max(1, iterations - warmup), **end)
    stage.choose('schedule', 'linear to 0' if poly else 'half a cosine to 0', 'after the warm-up',
                 'mmsegmentation, MAE UPerNet' if poly else 'MAE')
    wrapper: dict[str, Any] = dict(optimizer=dict(lr=lr))
    if decay != 1.0:
        wrapper['paramwise_cfg'] = dict(layer_decay=decay)
    if accumulation > 1:
        wrapper['accumulative_counts'] = accumulation
    return dict(
        optim_wrapper=wrapper, auto_scale_lr=dict(base_batch_size=batch * accumulation, enable=False),
        param_scheduler=[dict(type='LinearLR', start_factor=1e-3, begin=0, end=warmup, by_epoch=False), last],
        train_cfg=dict(max_iters=iterations, val_interval=interval),
        default_hooks=dict(checkpoint=dict(interval=interval, save_best=metric, rule='greater')))


def stopping(stage: Stage, machine: Machine, metric: str, accumulation: int = 1) -> list[dict[str, Any]]:
    """Returns hooks that average the weights, and stop a training whose metric no longer increases; none on a CPU."""
    stage.choose('best checkpoint', metric, 'the highest value on the validation set', 'RF-DETR')
    if machine.device == 'cpu':
        stage.choose('average of the weights', 'none', 'short training, learning rate falls to 0',
                     'docs/benchmarks.md: 58.9 mIoU with and without after 5,000 iterations, CamVid, one seed')
        return []
    stage.choose('average of the weights', 1 - _EMA, 'for validation, checkpoints and prediction', 'RF-DETR: 0.993')
    average = dict(type='EMAHook', momentum=_EMA, **(dict(interval=accumulation) if accumulation > 1 else {}))
    patience = stage.choose('patience', PATIENCE, f'stops after {PATIENCE} validations without a higher value',
                            'ultralytics, finetuning-guide: 10 to 20 % of the epochs; 3 of 10 ours')
    return [average, dict(type='mae_backbone.EarlyStopHook', monitor=metric, rule='greater', patience=patience)]
