"""Training steps in each precision: losses against float64, and steps that never wait for the GPU."""
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mae_backbone.benchmark.gpu.check import Rows, Settings
from mae_backbone.benchmark.gpu.mae import build, our_model, shape_of
from mae_backbone.benchmark.gpu.measure import PRECISIONS, attempt, precision, relative_error, without_synchronization

STEPS, WARMUP = 20, 3  # WARMUP steps may wait: they compile, choose kernels and allocate
LIMITS = {'float32': 1e-4, 'tf32': 1e-2, 'bfloat16': 5e-2, 'float16': 2e-2}  # relative errors of losses and gradients


def one_step(settings: Settings) -> Rows:
    """Loss and gradient of a MAE in each precision, against float64."""
    shape, seeds = shape_of('tiny', settings), torch.arange(8, device=settings.device)
    torch.manual_seed(0)
    model = our_model(shape).to(settings.device)
    images = torch.randn(8, 3, shape.side, shape.side, device=settings.device)

    def loss_and_gradient(name: str) -> tuple[Tensor, Tensor]:
        model.zero_grad()
        with precision(name, settings.device):
            loss = model(images.to(next(model.parameters()).dtype), seeds=seeds)[0]
        (loss * (1024 if name == 'float16' else 1)).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return loss, gradient / (1024 if name == 'float16' else 1)
    model.double()
    exact = loss_and_gradient('float32')
    model.float()

    def errors(name: str) -> dict[str, float | bool]:
        loss, gradient = (relative_error(a, b) for a, b in zip(loss_and_gradient(name), exact, strict=True))
        return {'loss': loss, 'gradient': gradient, 'limit': LIMITS[name], 'ok': max(loss, gradient) < LIMITS[name]}
    for name in _precisions(settings):
        yield name, attempt(partial(errors, name))


def twenty_steps(settings: Settings) -> Rows:
    """Losses of 20 steps in each precision; after the first ones, waiting for the GPU is an error."""
    cases = [(name, 'eager') for name in _precisions(settings)] + [('bfloat16', 'blocks')]
    for name, form in cases:
        yield f'{name}, {form}', attempt(partial(_losses, settings, name, form))


def steps_of_the_runner(settings: Settings) -> Rows:
    """The same with the model and the optimizer steps of `mae-backbone pretrain`. Needs mmengine."""
    import mmengine  # noqa: F401  # without it the check is skipped
    shape = shape_of('tiny', settings)
    for dtype, compiled in (('float32', 'no'), ('bfloat16', 'no'), ('bfloat16', 'yes'), ('float16', 'no')):
        if settings.device == 'cpu' and (dtype == 'float16' or compiled == 'yes'):
            continue  # no scaled loss there, and Inductor takes a minute
        args = Namespace(device=settings.device, image_size=[shape.side], decoder=list(shape.decoder), patch_size=16,
                         arch=shape.arch._asdict(), mask_ratio=0.75, compile=compiled, batch=8, dtype=dtype)
        yield f'{dtype}, compile={compiled}', attempt(partial(_runner_steps, args, settings))


def _precisions(settings: Settings) -> list[str]:
    """Precisions in which the device trains."""
    return [name for name in PRECISIONS if settings.device == 'cuda' or name not in ('tf32', 'float16')]


def _runner_steps(args: Namespace, settings: Settings) -> dict[str, float | bool]:
    from mae_backbone.benchmark.step import build_ours
    return _steps(build_ours(args), settings)


def _steps(step: Callable[[], object], settings: Settings) -> dict[str, float | bool]:
    """Takes the steps."""
    for _ in range(WARMUP):
        step()
    with without_synchronization(settings.device):
        for _ in range(STEPS - WARMUP):
            step()
    return {'steps': float(STEPS)}


def _losses(settings: Settings, name: str, form: str) -> dict[str, float | bool]:
    """Takes the steps; some of their losses. The batch is always the same, so that they fall."""
    step = build(shape_of('tiny', settings), settings, form=form, batch=8, dtype=name)
    losses: list[Tensor] = []
    _steps(lambda: losses.append(step()), settings)
    values = torch.stack(losses).tolist()
    return {'loss 1': values[0], 'loss 10': values[9], 'loss 20': values[-1], 'ok': values[-1] < values[0]}
