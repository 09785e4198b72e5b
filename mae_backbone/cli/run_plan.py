"""The plan of a run, printed before it starts."""
import re
from typing import TYPE_CHECKING

import torch
from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from mae_backbone.cli.errors import first_line, log_rank0
from mae_backbone.engine.runner import Runner

if TYPE_CHECKING:
    from mae_backbone.models.pretrainer import MAEPretrainer


def print_plan(runner: Runner, lines: list[str], *, trains: bool = True) -> None:
    """Prints the model, `lines`, the device, the length and memory of the run, and where results go.

    Args:
        runner: the runner of the run.
        lines: lines about the config and the data.
        trains: whether the run is a training, which has a length.
    """
    sizes = [(p.numel(), p.requires_grad) for p in runner.model.parameters()]
    log_rank0(f'model: {type(runner.model).__name__}, {sum(size for size, _ in sizes) / 1e6:.2f} M parameters, '
              f'{sum(size for size, trained in sizes if trained) / 1e6:.2f} M of them trained')
    for line in with_real_batch(runner, lines) if trains else lines:
        log_rank0(line)
    device = get_device()
    detail = torch.cuda.get_device_name() if device == 'cuda' else f'{torch.get_num_threads()} threads'
    log_rank0(f'device: {device}, {detail}')
    for line in length_and_memory(runner) if trains else ():
        log_rank0(line)
    log_rank0(f'results go to {runner.work_dir}')


def with_real_batch(runner: Runner, lines: list[str]) -> list[str]:
    """Returns the lines of a plan. If the training set is smaller than the batch of the config, corrects the batch."""
    batch, images = _batch_size(runner), len(runner.train_dataloader.sampler)

    def corrected(match: re.Match) -> str:
        planned, processes, accumulated = (int(match[name]) for name in ('planned', 'processes', 'accumulated'))
        if batch == planned:
            return match[0]
        return (f'effective batch {batch * processes * accumulated} = {batch} per process x {processes} processes x '
                f'{accumulated} accumulated ({planned} in the config, but the training set has {images} images per '
                'process)')
    return [_BATCH.sub(corrected, line) for line in lines]


# The line that `training.set_batch_and_lr` returns.
_BATCH = re.compile(r'effective batch \d+ = (?P<planned>\d+) per process x (?P<processes>\d+) processes x '
                    r'(?P<accumulated>\d+) accumulated')


def _batch_size(runner: Runner) -> int:
    """Images of a step in this process."""
    loader = runner.train_dataloader
    return loader.batch_size or loader.batch_sampler.batch_size  # pretraining has its own batch sampler


def length_and_memory(runner: Runner) -> list[str]:
    """Lines about the number of steps and the memory of a training."""
    from mae_backbone.models.classifier import ViTClassifier
    from mae_backbone.models.pretrainer import MAEPretrainer
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    loop, images, steps = runner.train_loop, len(runner.train_dataloader.dataset), len(runner.train_dataloader)
    in_epochs = isinstance(loop, EpochBasedTrainLoop) and loop.max_iters == loop.max_epochs * steps
    length = f'{loop.max_epochs:,} epochs x {steps:,} steps = ' * in_epochs + f'{loop.max_iters:,} steps'
    line = f'length: {length}, on {images:,} images'
    sharded = any(hasattr(p, 'full_tensor') for p in model.parameters())  # each process holds a part
    # For a detector or segmenter it is estimated only with --memory: it takes seconds on a CPU, and lacks the heads.
    memory = [] if sharded or not isinstance(model, MAEPretrainer | ViTClassifier) else [
        memory_line(model, runner.optim_wrapper, _batch_size(runner))]
    if not isinstance(model, MAEPretrainer):
        return [line, *memory]
    lines = [f'{line}; the remaining time is measured over the first 20 steps', *distillation_lines(model)]
    if model.freeze_encoder_iters:
        lines.append(f'encoder: frozen in the first {model.freeze_encoder_iters:,} steps, in which only the decoder '
                     'is trained')
    return [*lines, *memory]


def distillation_lines(model: 'MAEPretrainer') -> list[str]:
    """A line about the teacher of a pretraining; empty without one."""
    distillation = model.distillation
    if distillation is None:
        return []
    size = sum(parameter.numel() for parameter in distillation.teacher.parameters())
    return [f'teacher: {size / 1e6:.2f} M parameters of {distillation.checkpoint}; {type(distillation).__name__} of '
            f'block {distillation.teacher_blocks} of {distillation.arch.depth}, in the student block '
            f'{distillation.student_blocks} of {model.mae.encoder.arch.depth}, weight {distillation.weight:g}']


def memory_line(model: nn.Module, wrapper: dict, batch: int) -> str:
    """A line about the memory of a process at the peak of a step.

    Args:
        model: model of the training, not sharded.
        wrapper: config of its optimizer wrapper.
        batch: images per step.
    """
    from mae_backbone.engine.memory_estimate import training_memory
    try:
        memory = training_memory(model, wrapper, batch)
    except Exception as error:  # such as a user's masking that reads values: an estimate must not stop the run
        return f'memory: not estimated, {type(error).__name__}: {first_line(str(error) or "-")}'
    if memory is None:
        return 'memory: not estimated, the model has no ViT of mae_backbone'
    weights, moments, step = (f'{part / 2**30:.2f}' for part in memory.step)
    heads = '' if memory.complete else ', without the activations of the heads, which depend on the objects'
    return (f'memory: {memory.step.total / 2**30:.2f} GB expected for tensors at the peak of a step, in each process '
            f'(weights {weights}, moments {moments}, activations and gradients {step}{heads})')


def fit_memory(runner: Runner, gigabytes: float) -> str:
    """Chooses activation checkpointing so that a step fits into a memory; returns a line for the plan.

    Raises:
        ValueError: the model is sharded or has no ViT of this package, or a step does not fit.
    """
    from mae_backbone.engine.memory_estimate import choose_checkpointing
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if any(hasattr(p, 'full_tensor') for p in model.parameters()):
        raise ValueError('--memory does not support sharded models: remove it, and set '
                         'model.encoder.checkpointing (1 for all blocks, k for every k-th)')
    key = 'encoder' if hasattr(model, 'mae') else 'backbone'
    every, memory = choose_checkpointing(model, runner.optim_wrapper, _batch_size(runner), gigabytes * 2**30,
                                         distributed=runner.distributed)
    runner.cfg.merge_from_dict({f'model.{key}.checkpointing': every})  # saved in checkpoints
    blocks = {0: 'no block is', 1: 'every block is'}.get(every, f'1 of {every} blocks is')
    return (f'--memory {gigabytes:g} GB: {memory / 2**30:.2f} GB are expected with model.{key}.checkpointing={every} '
            f'({blocks} computed again in the backward pass)')
