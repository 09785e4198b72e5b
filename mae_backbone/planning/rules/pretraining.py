"""Settings of a pretraining."""
import math
from typing import Any

from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Plan, PlanOptions, Stage
from mae_backbone.planning.rules.encoder import Encoder
from mae_backbone.planning.rules.lengths import clamp, estimated_step, set_length
from mae_backbone.planning.rules.pixels import choose_pixels

_FLAT = 0.5              # with a larger fraction of patches without contrast, pixels are not normalized per patch
# Range of the magnification of crops in the pretraining of ViT-micro, relative to the images in the training of the
# task: 0.6 to 1.25, as in the demo configs of nuclei and CamVid.
_MAGNIFICATION = (0.61, 1.25)
_EFFECTIVE = {'micro': 64, 's': 256, 'b': 256, 'l': 256, 'own': 256}


def plan_pretraining(plan: Plan, fingerprint: Fingerprint, machine: Machine, options: PlanOptions,
                     encoder: Encoder, factor: float) -> Stage:
    """Plans the pretraining.

    Args:
        plan: plan to which the stage and warnings are added.
        fingerprint: fingerprint of the data.
        machine: machine that runs the pretraining.
        options: options of the user, with the measured cost of an iteration.
        encoder: encoder of the plan.
        factor: factor by which the training of the task resizes a median image.
    """
    stage = Stage('pretraining', _BASES[encoder.tier])
    plan.stages.append(stage)
    pixels = choose_pixels(stage, fingerprint, encoder)
    micro = encoder.name == 'micro'
    size = stage.choose('image size', *_image_size(fingerprint, encoder))
    scale = stage.choose('scale of crops', *_scale(fingerprint, encoder, size, factor))
    stage.choose('mask ratio', 0.75, 'photographs and most other images', 'MAE, figure 5')
    norm_pix = stage.choose(
        'normalized pixels', fingerprint.flat <= _FLAT,
        f'{fingerprint.flat:.0%} of the patches have no contrast'
        + ('' if fingerprint.flat <= _FLAT else ': their noise would count as much as the objects'),
        'MAE, table 1d' if fingerprint.flat <= _FLAT else
        'docs/benchmarks.md: normalized pixels are 2.4 box AP worse on nuclei, two seeds')
    decoder = _decoder(stage, encoder)
    images = max(1, fingerprint.num_pretraining)
    effective = _EFFECTIVE[encoder.name]
    batch = options.pretrain_step.batch if options.pretrain_step else min(effective, 64)
    stage.cost = options.pretrain_step or estimated_step('pretraining', encoder, machine, batch=batch, side=size,
                                                         visible=0.25)
    accumulation = max(1, effective // batch)
    stage.choose('batch', batch, f'largest that fits {machine.name}' if options.pretrain_step and not micro else
                 'images per iteration', 'ultralytics, autobatch.py' if not micro else
                 'configs/demo: the small pretrainings')
    if accumulation > 1:
        stage.choose('accumulated batches', accumulation, f'{effective} images for each step of the optimizer',
                     'RF-DETR, docs/learn/train')
    least = 3_500 if micro else 25_000  # 3,500: configs/demo, enough for tokens that differ between places
    wanted = clamp(800 * images / batch, least * accumulation, 100_000 * accumulation)
    iterations = set_length(stage, plan, encoder, wanted, f'800 epochs, between {least:,} and 100,000 steps',
                            '800 epochs: MAE, PRETRAIN.md; bounds ours')
    lr = stage.choose('learning rate', *_learning_rate(encoder, batch * accumulation))
    warmup = stage.choose('warm-up', max(1, min(round(0.05 * iterations), 2000)), '5 % of the iterations',
                          'SatMAE: 10 %; MAE: 5 %')
    stage.config = _config(stage, fingerprint, encoder, pixels, dict(
        size=size, scale=scale, norm_pix=norm_pix, decoder=decoder, batch=batch, accumulation=accumulation,
        iterations=iterations, lr=lr, warmup=warmup, cached=_fits_cache(fingerprint, machine)))
    return stage


_BASES = {'cpu': 'own/mae_vit-micro_cpu', '8gb': 'own/mae_vit-s_8gb', '24gb': 'own/mae_vit-b_24gb',
          '80gb': 'own/mae_vit-b_80gb'}


def _image_size(fingerprint: Fingerprint, encoder: Encoder) -> tuple[int, str, str]:
    side = fingerprint.long_side.get('50', 224)
    if encoder.name != 'micro':
        return 224, 'the image size of the pretrained weights', 'MAE, main_pretrain.py'
    if encoder.patch_size == 4:
        return 32, f'the median image has a long side of {side:.0f} pixels: 64 patches of 4', OURS
    return 64, '64 patches of 8: on a CPU, more iterations of small crops are worth more than large ones', (
        'configs/demo/mae_vit-micro_nuclei.py: at 128 pixels all tokens became equal')


def _scale(fingerprint: Fingerprint, encoder: Encoder, size: int, factor: float) -> tuple[tuple[float, float], str,
                                                                                          str]:
    area = fingerprint.width.get('50', size) * fingerprint.height.get('50', size) * factor ** 2
    if fingerprint.task == 'classification' or area <= size ** 2:
        return (0.2, 1.0), 'whole images are classified' if fingerprint.task == 'classification' else (
            'images are as small as the crops'), 'MAE, main_pretrain.py'
    if encoder.name == 'micro':
        low, high = (float(f'{min(1.0, (size / magnification) ** 2 / area):.2g}')
                     for magnification in (_MAGNIFICATION[1], _MAGNIFICATION[0]))
        return (low, high), (f'crops have {_MAGNIFICATION[0]:g} to {_MAGNIFICATION[1]:g} times the magnification of '
                             'the training'), 'configs/demo, measured on nuclei and CamVid'
    high = float(f'{min(1.0, (2.5 * size) ** 2 / area):.2g}')
    return (float(f'{high / 5:.2g}'), high), (
        f'median image {fingerprint.width.get("50", 0):.0f}x{fingerprint.height.get("50", 0):.0f}: crops are reduced '
        'by at most 2.5'), 'range of 1 to 5: MAE; factor ours'


def _decoder(stage: Stage, encoder: Encoder) -> dict[str, Any]:
    weights = encoder.weights
    if weights is not None and weights.has_decoder:
        return {}
    if encoder.name == 'micro':
        width, heads = encoder.width, 4
    elif encoder.width <= 384:
        width, heads = encoder.width // 2, max(1, encoder.width // 64)
    else:
        return {}
    stage.choose('decoder', dict(blocks=1, width=width), f'an encoder of width {encoder.width}',
                 'MAE-Lite: 1 block for small encoders')
    return dict(decoder_width=width, decoder_depth=1, decoder_heads=heads)


def _learning_rate(encoder: Encoder, batch: int) -> tuple[float, str, str]:
    if encoder.name == 'micro':
        return 1e-3, 'an encoder of 1.2 M parameters', 'configs/demo: the best that was tried for batches of 32 to 256'
    base = 0.5e-4 if encoder.pretraining == 'continued' else 1.5e-4
    return float(f'{base * batch / 256:.3g}'), f'{base:g} for 256 images, {batch} in a step', (
        'MAE, PRETRAIN.md' if base == 1.5e-4 else 'a third of the rate of MAE: ours, no comparison is published')


def _fits_cache(fingerprint: Fingerprint, machine: Machine) -> bool:
    """True if all decoded images fit into a quarter of the memory, so that the loader can keep them in memory."""
    values = fingerprint.channels * (2 if fingerprint.bits > 8 else 1) if fingerprint.reader else 3  # bytes of a pixel
    image = fingerprint.width.get('50', 0) * fingerprint.height.get('50', 0) * values
    return machine.device == 'cpu' and fingerprint.num_pretraining * image < machine.memory / 4


def _config(stage: Stage, fingerprint: Fingerprint, encoder: Encoder, pixels: Any, s: dict[str, Any]
            ) -> dict[str, Any]:
    model: dict[str, Any] = dict(
        encoder=dict(arch=encoder.config_arch, image_size=s['size'], patch_size=encoder.patch_size,
                     **(dict(in_channels=pixels.channels) if pixels.channels != 3 else {})),
        **s['decoder'], norm_pix=s['norm_pix'], data_preprocessor=dict(mean=pixels.mean, std=pixels.std))
    if encoder.weights is not None and encoder.pretraining == 'continued':
        model['init_cfg'] = dict(type='Pretrained', checkpoint=encoder.weights.path)
        if not encoder.weights.has_decoder:
            model['freeze_encoder_iters'] = stage.choose(
                'frozen encoder, iterations', max(1, s['iterations'] // 20), f'{encoder.weights.path} has no decoder: '
                'only the new decoder is trained first', OURS)
    dataset: dict[str, Any] = dict(data_root='{pretraining_root}', image_size=s['size'], scale=s['scale'],
                                   cache=s['cached'])
    if pixels.reader:
        dataset['reader'] = pixels.reader
    interval = max(1, math.ceil(s['iterations'] / 5))
    end = s['iterations']
    return dict(
        model=model, train_dataloader=dict(batch_size=s['batch'], dataset=dataset),
        optim_wrapper=dict(optimizer=dict(lr=s['lr']), **(
            dict(accumulative_counts=s['accumulation']) if s['accumulation'] > 1 else {})),
        auto_scale_lr=dict(base_batch_size=s['batch'] * s['accumulation'], enable=False),
        param_scheduler=[
            dict(type='LinearLR', start_factor=1e-4, begin=0, end=s['warmup'], by_epoch=False),
            dict(type='CosineAnnealingLR', begin=s['warmup'], end=end, T_max=max(1, end - s['warmup']),
                 by_epoch=False)],
        train_cfg=dict(max_iters=end),
        default_hooks=dict(checkpoint=dict(interval=interval), health=dict(interval=end)),
        custom_hooks=[dict(type='mae_backbone.ReconstructionHook', interval=interval, by_epoch=False)])
