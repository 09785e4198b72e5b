"""Arithmetic of pretraining recipes: FLOPs of a training step per image, over the whole training."""
import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mae_backbone.hooks.image_size_schedule import Stage, checked_stages
from mae_backbone.models.pretrainer import MAEPretrainer
from mae_backbone.utils.config_files import drop_scope, find_config


class Recipe(NamedTuple):
    """FLOPs of a pretraining config: matrix products of the forward and backward pass, attention included.

    Attributes:
        name: of the config.
        stages: from the first to the last, with the fraction of the training at which each starts.
        flops: per image of each stage.
        length: of the training, in `unit`.
        unit: 'epochs' or 'images'.
    """

    name: str
    stages: list[Stage]
    flops: list[float]
    length: int
    unit: str

    @property
    def mean(self) -> float:
        """FLOPs per image seen, mean over the training."""
        ends = [start for start, _ in self.stages[1:]] + [1.0]
        return sum(flops * (end - start) for flops, (start, _), end in zip(self.flops, self.stages, ends, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Content of the JSON file."""
        return {'config': self.name, 'flops_per_image': self.mean, 'length': self.length, 'unit': self.unit, 'stages': [
            {'from': start, 'image_size': list(size), 'flops_per_image': flops}
            for (start, size), flops in zip(self.stages, self.flops, strict=True)]}


def run(args: argparse.Namespace) -> tuple[dict, str]:
    """Counts the FLOPs of a config and of another config. Returns the content of the JSON file, and a table.

    Raises:
        ValueError: a config is not one of pretraining.
    """
    ours, other = (measure(name) for name in (args.config, args.against))
    ratio = {'per_image': ours.mean / other.mean}
    lines = [line for recipe in (ours, other) for line in _lines(recipe)]
    lines.append(f'{ratio["per_image"]:.2f} of the FLOPs for the same number of images seen')
    if ours.unit == other.unit and ours.length != other.length:
        ratio['training'] = ratio['per_image'] * ours.length / other.length
        lines.append(f'{ratio["training"]:.2f} of the FLOPs of the whole training')
    return {'benchmark': 'flops', 'ours': ours.to_dict(), 'baseline': other.to_dict(), 'ratio': ratio}, '\n'.join(lines)


def _lines(recipe: Recipe) -> Iterator[str]:
    yield f'{recipe.name}: {recipe.mean / 1e9:.4g} GFLOP per image, {recipe.length:,} {recipe.unit}'
    for (start, (height, width)), flops in zip(recipe.stages, recipe.flops, strict=True):
        yield f'  from {start:4.0%} of the training: {height}x{width} pixels, {flops / 1e9:.4g} GFLOP'


def measure(name: str) -> Recipe:
    """Counts the FLOPs of each stage of a pretraining config, without allocating its weights."""
    path = find_config(name)
    cfg = Config.fromfile(path)
    drop_scope(cfg._cfg_dict)
    if cfg.get('model', {}).get('type') != 'mae_backbone.MAEPretrainer':
        raise ValueError(f'{path} is no pretraining config: its model is {cfg.get("model", {}).get("type")}, expected '
                         'mae_backbone.MAEPretrainer')
    with torch.device('meta'):
        model: MAEPretrainer = MODELS.build(cfg.model).train()
    model.compile_decided = True  # nothing to compile on tensors without data
    stages = stages_of(cfg, model.mae.encoder.image_size)
    epochs, iterations = cfg.train_cfg.get('max_epochs'), cfg.train_cfg.get('max_iters')
    return Recipe(Path(path).stem, stages, [flops_per_image(model, size) for _, size in stages],
                  epochs or iterations * cfg.train_dataloader.batch_size, 'epochs' if epochs else 'images')


def stages_of(cfg: Config, image_size: tuple[int, int]) -> list[Stage]:
    """Image sizes of a training: of `ImageSizeHook`, of the batch sampler, or else the one size of the model.

    Raises:
        ValueError: sizes of the batch sampler, which start at epochs, in a training that counts iterations.
    """
    hooks = [*cfg.get('default_hooks', {}).values(), *cfg.get('custom_hooks', [])]
    for hook in hooks:
        if hook and hook['type'] == 'mae_backbone.ImageSizeHook':
            return checked_stages(hook['stages'])
    sizes, epochs = cfg.train_dataloader.get('batch_sampler', {}).get('image_sizes'), cfg.train_cfg.get('max_epochs')
    if not sizes:
        return [(0.0, image_size)]
    if not epochs:
        raise ValueError('image_sizes of the batch sampler start at epochs, and the training counts iterations: use '
                         'mae_backbone.ImageSizeHook')
    return checked_stages([(first / epochs, size) for first, size in sizes if first < epochs])


def flops_per_image(model: MAEPretrainer, size: tuple[int, int]) -> float:
    """FLOPs of the forward and backward pass of an image of (height, width) pixels."""
    device, channels = next(model.parameters()).device, model.mae.encoder.in_channels
    # The counter does not support every fused kernel of attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, channels, *size, device=device), mode='loss')['loss'].backward()
    model.zero_grad()
    return float(counter.get_total_flops())
