"""The ViTDet backbone on images of 1,024 pixels, forward and backward, with each form of attention."""
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from mae_backbone.benchmark.gpu.attention import exact_widths
from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.measure import compile_options, flops_of, precision, speed
from mae_backbone.benchmark.reference_attention import ReferenceAttention
from mae_backbone.core.compiling import compile_parts
from mae_backbone.core.vit import ARCHS, Arch, ViT


def throughput(settings: Settings, *, batch: int, form: str, aim: int | None = None) -> Rows:
    """Images per second in bfloat16.

    Args:
        settings: of the checks.
        batch: images of a call.
        form: 'folded' into the heads, as in training; 'folded, exact widths', without filling heads up to a width
            that fused kernels take; 'blocks', folded and compiled block by block; 'explicit', N x N tables as in
            detectron2.
        aim: images per second to reach on an H200.
    """
    model, side = backbone(settings, explicit=form == 'explicit')
    batch = 1 if settings.tiny else batch
    if form == 'blocks':
        compile_parts(model, **compile_options(settings))
    images = torch.randn(batch, 3, side, side, device=settings.device)

    def work(images: Tensor = images) -> None:
        with precision('bfloat16', settings.device):
            features, = model.feature_maps(images)
        features.float().square().mean().backward()
        model.zero_grad()
    with exact_widths() if form == 'folded, exact widths' else nullcontext():
        figures = speed(work, settings, images=batch, flops=model_flops(settings), steps=3, aim=aim)
    yield f'batch {batch}, {form}', figures


def backbone(settings: Settings, *, explicit: bool = False) -> tuple[ViT, int]:
    """ViTDet-B, or a small one with --tiny, and the side of its images in pixels."""
    torch.manual_seed(0)
    arch, side = (Arch(64, 2, 2), 128) if settings.tiny else (ARCHS['base'], 1024)
    every = max(1, arch.depth // 4)
    model = ViT(arch._asdict(), image_size=side, pretrain_image_size=224, class_token=False, final_norm=False,
                window_size=14, relative_positions=True, drop_path_rate=0.1,
                global_blocks=range(every - 1, arch.depth, every))
    for name, parameter in model.named_parameters():
        if 'rel_pos' in name:
            nn.init.normal_(parameter, std=0.02)
    if explicit:
        for block in model.blocks:
            block.attn.__class__ = ReferenceAttention  # the same parameters under the same names
            cast(Any, block).recompute = False
    return model.to(settings.device).train(), side


def model_flops(settings: Settings) -> float:
    """FLOPs of forward and backward pass for an image with heads of 64 numbers: the explicit form's products."""
    model, side = backbone(settings._replace(device='meta'), explicit=True)
    return flops_of(lambda: model.feature_maps(torch.zeros(1, 3, side, side, device='meta'))[0].mean().backward())
