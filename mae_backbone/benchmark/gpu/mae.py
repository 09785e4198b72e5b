"""A training step of a MAE on torch and timm only, in the forms that are compared."""
from collections.abc import Callable
from itertools import repeat
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.measure import compile_options, flops_of, precision, speed
from mae_backbone.benchmark.reference_mae import ReferenceMAE
from mae_backbone.core.compiling import compile_parts
from mae_backbone.core.mae import MAE
from mae_backbone.core.vit import ARCHS, Arch, ViT
from mae_backbone.engine.prefetch import prefetch

FORMS = ('eager', 'blocks', 'whole', 'reference')
Step = Callable[[], Tensor]  # takes a training step and returns its loss, on the device


class Shape(NamedTuple):
    """Model and images of a step."""

    arch: Arch
    side: int                    # of the images, in pixels
    decoder: tuple[int, int, int]  # width, depth, heads


def shape_of(arch: str, settings: Settings) -> Shape:
    """The MAE of the paper, or a small one with --tiny."""
    return Shape(Arch(64, 2, 2), 64, (64, 2, 2)) if settings.tiny else Shape(ARCHS[arch], 224, (512, 8, 16))


def throughput(settings: Settings, *, arch: str, batch: int, form: str, aim: int | None = None) -> Rows:
    """Images per second of training steps in bfloat16, next to the aim on an H200."""
    shape, batch = shape_of(arch, settings), 4 if settings.tiny else batch
    with precision('float32', settings.device):
        flops = flops_of(build(shape, settings, form='eager', batch=1, dtype='float32'))
    step = build(shape, settings, form=form, batch=batch, dtype='bfloat16')
    yield f'{arch}, batch {batch}, {form}', speed(step, settings, images=batch, flops=flops, aim=aim)


def build(shape: Shape, settings: Settings, *, form: str, batch: int, dtype: str, seed: int = 0) -> Step:
    """Builds model and optimizer.

    Args:
        shape: of model and images.
        settings: of the checks.
        form: 'eager'; 'blocks', compiled block by block as in training; 'whole', forward pass and loss as one graph;
            'reference', the plain form on timm's blocks with an optimizer in a for loop.
        batch: images of a step.
        dtype: one of `PRECISIONS`.
        seed: of weights, pixels and masks.
    """
    torch.manual_seed(seed)
    reference = form == 'reference'
    model = (reference_model if reference else our_model)(shape).to(settings.device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, betas=(0.9, 0.95),
                                  weight_decay=0.05, foreach=False, fused=not reference)
    forward = losses_of(model, shape, settings, form)
    pixels = torch.randint(256, (batch, shape.side, shape.side, 3), dtype=torch.uint8)
    if settings.device == 'cuda':  # as the loader of a training delivers it
        pixels = pixels.pin_memory()
    batches = iter(prefetch(repeat(dict(inputs=pixels)), torch.device(settings.device)))
    seeds = torch.arange(batch, device=settings.device)
    scaler = torch.amp.GradScaler(settings.device, enabled=dtype == 'float16')

    def step() -> Tensor:
        images = next(batches)['inputs'].permute(0, 3, 1, 2) / 127.5 - 1
        with precision(dtype, settings.device):
            loss = forward(images, seeds)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss.detach()
    return step


def our_model(shape: Shape) -> MAE:
    """The MAE of this package."""
    width, depth, heads = shape.decoder
    encoder = ViT(shape.arch._asdict(), image_size=shape.side, fixed_positions=True)
    return MAE(encoder, decoder_width=width, decoder_depth=depth, decoder_heads=heads)


def reference_model(shape: Shape) -> ReferenceMAE:
    """The plain MAE of the same size."""
    width, depth, heads = shape.decoder
    return ReferenceMAE(shape.arch, image_size=(shape.side, shape.side), decoder_width=width, decoder_depth=depth,
                        decoder_heads=heads)


def losses_of(model: nn.Module, shape: Shape, settings: Settings, form: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The forward pass of a form: images (B, 3, H, W), seeds (B,) -> loss ()."""
    if form == 'reference':
        patches = (shape.side // 16)**2
        return lambda images, seeds: model(images, torch.rand(len(images), patches, device=images.device))
    options = compile_options(settings)
    if form == 'blocks':
        compile_parts(model, **options)

    def forward(images: Tensor, seeds: Tensor) -> Tensor:
        return model(images, seeds=seeds)[0]
    return torch.compile(forward, **options) if form == 'whole' else forward
