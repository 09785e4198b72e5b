"""Chooses the encoder by the memory, and its start: pretraining from scratch, continued, or public weights."""
from dataclasses import dataclass
from typing import Any

import numpy as np

from mae_backbone.planning.fingerprint import UNLABELED, Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.plan import OURS, Choice, Plan, PlanOptions, WeightFacts

# Mean and standard deviation of ImageNet (0 to 255), and the limits `MAX_OFFSET` and `MAX_RATIO` of `data_settings`.
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_MAX_OFFSET, _MAX_RATIO = 1.0, 2.0
GIGABYTE = 2 ** 30
# Smallest free memory of the GPU for each tier of base configs. A GPU with 24 GB has 22 GB free.
_MEMORY = {'80gb': 60 * GIGABYTE, '24gb': 20 * GIGABYTE, '8gb': 0}
_MIN_SCRATCH_GPU = 100_000   # smallest number of images for pretraining from scratch on a GPU
_MIN_CONTINUED = 5_000       # smallest number of images for continued pretraining. With fewer it gains too little
_BASE_WIDTH = {'cpu': 128, '8gb': 384, '24gb': 768, '80gb': 768}
_BASE_DEPTH = {'cpu': 6, '8gb': 12, '24gb': 12, '80gb': 12}
LORA_RANK = 16
MICRO = dict(width=128, depth=6, heads=4)


@dataclass(frozen=True)
class Encoder:
    """The encoder of a plan.

    Attributes:
        tier: 'cpu', '8gb', '24gb' or '80gb', the last part of the names of the base configs in configs/own.
        name: 'micro', 's', 'b' or 'l' as in names of configs; 'own' for other sizes.
        arch: name of an architecture, or dict(width=, depth=, heads=), as in configs.
        width, depth: width and number of blocks of the ViT.
        patch_size: side of a patch in pixels.
        pretraining: 'scratch', 'continued' or 'none'.
        weights: weights from which training or continued pretraining starts; None for random weights.
        tuned: part of the encoder that the task trains (`choose_tuning`): 'all' weights, 'lora' (low-rank adapters),
            'last' (the last third of the blocks), or 'none'.
    """

    tier: str
    name: str
    arch: Any
    width: int
    depth: int
    patch_size: int
    pretraining: str
    weights: WeightFacts | None
    tuned: str = 'all'

    @property
    def config_arch(self) -> Any:
        """Architecture for a config that inherits a base config of the tier.

        A dict replaces the name of an architecture in the base config, instead of being merged with it.
        """
        return dict(_delete_=True, **self.arch) if isinstance(self.arch, dict) and self.tier != 'cpu' else self.arch

    @property
    def frozen(self) -> bool:
        """True if training does not change the encoder."""
        return self.tuned == 'none'

    @property
    def tuned_blocks(self) -> int:
        """Number of trained blocks if only the last blocks are trained."""
        return max(1, self.depth // 3)

    @property
    def block_parameters(self) -> int:
        """Number of weights in all blocks: 12 * width ** 2 per block."""
        return 12 * self.width ** 2 * self.depth


PUBLIC = {
    's': WeightFacts('dino_vits16', 'small', 384, 12, title='DINO, ImageNet-1K', mean=IMAGENET[0], std=IMAGENET[1]),
    'b': WeightFacts('mae_vit_base', 'base', 768, 12, title='MAE, ImageNet-1K', mean=IMAGENET[0], std=IMAGENET[1]),
}


def choose_encoder(plan: Plan, fingerprint: Fingerprint, machine: Machine, options: PlanOptions) -> Encoder:
    """Chooses encoder and pretraining, and adds the reasons to the plan."""
    tier = choose_tier(machine)
    given, images = options.weights, fingerprint.num_pretraining
    far = distance_from_photographs(fingerprint)
    memory = f'{machine.name}, {machine.memory / GIGABYTE:.0f} GB free'
    if tier == 'cpu' and given is None:
        patch = patch_size_of_small_images(fingerprint)
        plan.decisions.append(Choice('encoder', 'ViT-micro, 6 blocks of width 128',
                                      f'no GPU ({machine.cpus} CPUs, {machine.gflops:,.0f} GFLOP/s)',
                                      'docs/benchmarks.md: in 12 minutes on nuclei, a width of 64 is 1.2 box AP better '
                                      'and 192 is 2.2 worse, one seed; longer trainings are not measured'))
        plan.decisions.append(Choice(
            'pretraining', 'from scratch', f'no public weights exist for an encoder of this size; {images:,} images '
            f'({fingerprint.images.get(UNLABELED, 0):,} without labels)',
            'docs/benchmarks.md: a gain with few labels. With all labels and in the same total time, better on CamVid '
            'with each of three seeds, and no gain on nuclei and blood cells'))
        return Encoder(tier, 'micro', MICRO, 128, 6, patch, 'scratch', None)
    if given is not None:
        plan.decisions.append(Choice('encoder', f'{given.depth} blocks of width {given.width}',
                                      f'the architecture of {given.path} ({given.title})', 'the weights'))
        weights, name = given, _name(given.width)
    else:
        name = 's' if tier == '8gb' else 'b'
        weights = PUBLIC[name]
        plan.decisions.append(Choice('encoder', f'ViT-{name.upper()}', memory,
                                      'ViTDet-B takes 10.9 GB for an image of 1,024 pixels: detectron2 ViTDet README'))
    if given is None and images >= _MIN_SCRATCH_GPU and (far or fingerprint.channels not in (1, 3)):
        plan.decisions.append(Choice('pretraining', 'from scratch', f'{images:,} images; {far}',
                                      'with 0.3 M X-rays, a MAE on these data was better than MAE on ImageNet: '
                                      'arXiv:2210.12843'))
        return Encoder(tier, name, weights.arch, weights.width, weights.depth, 16, 'scratch', None)
    pretraining, reason, source = _continued_or_none(fingerprint, far)
    if tier == 'cpu' and weights.width >= 384 and fingerprint.task != 'pretraining':
        pretraining, reason, source = 'none', f'weights of width {weights.width}, and there is no GPU', OURS
    if fingerprint.task == 'pretraining' and pretraining == 'none':
        pretraining, reason, source = 'continued', f'the data have no labels to train on; {images:,} images', OURS
    plan.decisions.append(Choice('pretraining', pretraining, reason, source))
    if given is None:
        plan.decisions.append(Choice('weights', weights.path,
                                      f'{fingerprint.num_labeled:,} labeled images, and --pretrained is not given',
                                      'public weights for few images: ultralytics docs, finetuning-guide'))
    return Encoder(tier, name, weights.arch, weights.width, weights.depth, weights.patch_size, pretraining, weights)


def _name(width: int) -> str:
    if width <= 192:
        return 'micro'
    return {384: 's', 768: 'b', 1024: 'l'}.get(width, 'own')


def dense_patch_size(encoder: Encoder) -> int:
    """Patch size of detectors and segmenters: 8 for small encoders, otherwise 16. Weights are resized to it."""
    return 8 if encoder.tier == 'cpu' and encoder.patch_size <= 8 else 16


def dense_backbone(encoder: Encoder, image_size: int) -> dict[str, Any]:
    """Returns settings of the backbone of a detector or segmenter that differ from the base config."""
    backbone: dict[str, Any] = dict(image_size=image_size)
    weights, patch = encoder.weights, dense_patch_size(encoder)
    if weights is None and encoder.tier != 'cpu':  # trained from scratch: remove the weights of the base config
        return dict(backbone, init_cfg=None)
    if weights is None:
        return backbone
    backbone |= dict(arch=encoder.config_arch, patch_size=patch,
                     pretrain_image_size=weights.image_size // weights.patch_size * patch,
                     init_cfg=dict(type='Pretrained', checkpoint=weights.path))
    if encoder.depth != _BASE_DEPTH[encoder.tier]:
        quarter = encoder.depth // 4
        backbone['global_blocks'] = [quarter * (number + 1) - 1 for number in range(4)] if quarter else list(
            range(encoder.depth))
    if encoder.tuned in ('lora', 'none') and not weights.relative_positions:
        backbone['relative_positions'] = False  # new tables are zero and frozen: they would cost time without effect
    return backbone | trained_part(encoder)


def trained_part(encoder: Encoder) -> dict[str, Any]:
    """Returns settings of the backbone for the trained part of the encoder; empty if all weights are trained."""
    if encoder.tuned == 'lora':
        return dict(lora=dict(rank=LORA_RANK))
    if encoder.tuned == 'last':
        return dict(frozen_stages=encoder.depth - encoder.tuned_blocks)
    return dict(frozen_stages=encoder.depth) if encoder.frozen else {}


def dense_neck(encoder: Encoder) -> dict[str, Any]:
    """Returns settings of the feature pyramid that differ from the base config, as dict(neck=...); empty if none do."""
    neck: dict[str, Any] = {}
    if encoder.width != _BASE_WIDTH[encoder.tier]:
        neck['in_channels'] = encoder.width
    if encoder.tier == 'cpu' and dense_patch_size(encoder) != 8:
        neck['input_stride'] = dense_patch_size(encoder)
    return dict(neck=neck) if neck else {}


def choose_tier(machine: Machine) -> str:
    """Returns the tier of the base configs in configs/own that fit the machine."""
    if machine.device == 'cpu':
        return 'cpu'
    return next(name for name, memory in _MEMORY.items() if machine.memory >= memory)


def distance_from_photographs(fingerprint: Fingerprint) -> str:
    """Describes how the images differ from the photographs of ImageNet, on which public weights were trained.

    Returns '' if the images are similar to photographs.
    """
    if fingerprint.channels not in (1, 3, 4):
        return f'{fingerprint.channels} channels'
    if fingerprint.bits > 8:
        return f'{fingerprint.bits} bits'
    if fingerprint.gray:
        return 'images without color'
    if not fingerprint.mean:
        return ''
    mean, std = (np.array(values[:3]) for values in (fingerprint.mean, fingerprint.std))
    if len(mean) != 3:
        return 'images without color'
    offset = float(np.abs((mean - IMAGENET[0]) / IMAGENET[1]).max())
    ratio = float(np.maximum(std / IMAGENET[1], np.array(IMAGENET[1]) / np.maximum(std, 1e-6)).max())
    if offset > _MAX_OFFSET or ratio > _MAX_RATIO:
        return (f"normalized with ImageNet's values, the mean is off by {offset:.1f} deviations, and the deviation by "
                f'a factor of {ratio:.1f}')
    return ''


def patch_size_of_small_images(fingerprint: Fingerprint) -> int:
    """Patch size of the encoder that is trained from scratch on a CPU: 8, or 4 for small images."""
    small = fingerprint.task in ('classification', 'pretraining') and fingerprint.long_side.get('50', 0) <= 48
    return 4 if small else 8


def _continued_or_none(fingerprint: Fingerprint, far: str) -> tuple[str, str, str]:
    images, labeled = fingerprint.num_pretraining, fingerprint.num_labeled
    if not far:
        return 'none', 'the pixels are similar to the photographs that the weights were trained on', (
            'with 6,000 medical images a continued MAE was below MAE on ImageNet: facebookresearch/mae#204')
    if images < _MIN_CONTINUED:
        return 'none', f'{images:,} images, fewer than {_MIN_CONTINUED:,} ({far})', (
            'with 6,000 medical images a continued MAE was below MAE on ImageNet: facebookresearch/mae#204')
    if labeled and images < 5 * labeled:
        return 'none', f'{images:,} images, fewer than 5 times the {labeled:,} labeled images', OURS
    return 'continued', f'{images:,} images, {labeled:,} of them with labels; {far}', (
        'continued MAE gained 1.2 on 600,000 aerial images: arXiv:2302.04476, table 1; threshold ours')

