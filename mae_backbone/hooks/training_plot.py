"""One picture of a whole run in its work directory, for which no server is needed."""
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mae_backbone.hooks.scalar_history import curve, noted, step_curve
from mae_backbone.registry import HOOKS
from mae_backbone.utils.atomic_write import write_bytes

_POINTS = 300  # that a curve is drawn with; more cannot be told apart
_COLORS = ('#1f6fb4', '#d9822b', '#2f9e62', '#b5446e', '#6b5bb0', '#7a7a7a')
_DRAWN_ELSEWHERE = ('images_per_s', 'waiting', 'memory', 'rank', 'spread')


@HOOKS.register_module()
class PlotHook(Hook):
    """Draws loss, learning rate, gradients, speed, memory, probes and rank of a pretraining into `training.png`.

    What is drawn comes from the message hub, which checkpoints carry: after a resumption the picture is of the whole
    run. It is written beside its name and then renamed, so that a viewer never sees half of it.

    Args:
        interval: iterations between two pictures, at the least; one is drawn at the end of every epoch and of the run
            too. None may take more than a hundredth of the time: the next one waits until then.
        name: of the file.
    """

    priority = 'VERY_LOW'  # after everything that measures

    def __init__(self, *, interval: int = 500, name: str = 'training.png') -> None:
        self.interval, self.name = interval, name
        self.next_at = 0.0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Draws where the interval says so."""
        if self.every_n_train_iters(runner, self.interval) and not self.is_last_train_iter(runner):
            self.draw(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        """Draws what the epoch brought."""
        if not self.is_last_train_epoch(runner):
            self.draw(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Draws the whole run, however short ago the last picture is."""
        self.next_at = 0.0
        self.draw(runner, runner.iter)

    @master_only
    def draw(self, runner: Runner, iteration: int) -> None:
        """Writes the picture of all up to an iteration, unless the last one is too short ago."""
        start = time.perf_counter()
        if start < self.next_at:
            return
        epoch = len(runner.train_dataloader) if runner.log_processor.by_epoch else None
        picture = training_picture(runner.message_hub, iteration, title=str(runner.experiment_name), epoch=epoch)
        write_bytes(Path(runner.work_dir, self.name), picture)
        end = time.perf_counter()
        self.next_at = end + 99 * (end - start)


class Line(NamedTuple):
    """One curve of a panel."""

    label: str
    at: np.ndarray      # (N,) iterations
    values: np.ndarray  # (N,)


class Panel(NamedTuple):
    """One diagram of the picture."""

    title: str
    lines: list[Line]
    log: bool = False                           # a logarithmic axis
    form: Callable[[float], str] | None = None  # of the numbers beside the axis
    zero: bool = False                          # whether the axis starts at 0: noise then looks as small as it is
    scale: float = 1.0                          # what the values are multiplied by


def training_picture(hub: MessageHub, iteration: int, *, title: str, epoch: int | None = None) -> bytes:
    """The curves of a message hub up to an iteration -> a PNG file.

    Args:
        epoch: iterations of an epoch, for an axis in epochs; None for one in iterations.
    """
    panels = [panel for panel in all_panels(hub, iteration) if panel.lines]
    columns = 2 if len(panels) < 5 else 3
    rows = -(-max(len(panels), 1) // columns)
    figure = Figure(figsize=(5.2 * columns, 0.5 + 3.0 * rows), layout='constrained')
    FigureCanvasAgg(figure)
    at = f'epoch {iteration / epoch:.4g}, ' if epoch else ''
    figure.suptitle(f'{title}: {at}iteration {iteration:,}', fontsize=11)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        draw_panel(axes, panel, scale=epoch or 1)
        axes.set_xlabel('epoch' if epoch else 'iteration', fontsize=8)
        axes.set_xlim(0, max(iteration / (epoch or 1), 1e-9))
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=110)
    return file.getvalue()


def all_panels(hub: MessageHub, iteration: int) -> list[Panel]:
    """What is drawn, from top left to bottom right; panels without a line are left out of the picture."""
    def steps(name: str, label: str = '') -> list[Line]:
        line = Line(label, *step_curve(hub, name, iteration))
        return [line] if len(line.values) else []

    def now_and_then(*names: str) -> list[Line]:
        lines = [Line(label, *curve(hub, name)) for name, label in (entry.split('|') for entry in names)]
        return [line for line in lines if len(line.values)]

    probes = sorted(name for name in noted(hub) if name not in _DRAWN_ELSEWHERE)
    return [
        Panel('loss', steps('loss')),
        Panel('learning rate', steps('lr'), form='{:.3g}'.format),
        Panel('gradient norm', steps('grad_norm'), log=True),
        Panel('images/s', now_and_then('images_per_s|'), form='{:,.0f}'.format, zero=True),
        Panel('share of the time waiting for images', now_and_then('waiting|'), form='{:.0%}'.format, zero=True),
        Panel('memory, GB', now_and_then('memory|'), zero=True, scale=1 / 1024),
        Panel('probes: correct, %', now_and_then(*(f'{name}|{name}' for name in probes))),
        Panel('effective rank of the features (RankMe)', now_and_then('rank|'), zero=True),
        Panel('spread of the tokens within an image', now_and_then('spread|'), zero=True),
    ]


def draw_panel(axes: Axes, panel: Panel, *, scale: float) -> None:
    """Draws lines over iterations / scale; those of many points as their mean and range."""
    for line, color in zip(panel.lines, _COLORS * (1 + len(panel.lines) // len(_COLORS)), strict=False):
        at, low, mean, high = thinned(line.at / scale, line.values * panel.scale)
        if len(at) < len(line.at):
            axes.fill_between(at, low, high, color=color, alpha=0.22, linewidth=0)
        axes.plot(at, mean, color=color, linewidth=1.4, marker='o' if len(at) <= 30 else '', markersize=3,
                  label=line.label)
    axes.set_title(panel.title, fontsize=9, loc='left')
    axes.grid(color='#dddddd', linewidth=0.6)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if panel.log and any((line.values > 0).any() for line in panel.lines):
        axes.set_yscale('log')
    elif panel.form is not None:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: panel.form(value)))
    if panel.zero:
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    if any(line.label for line in panel.lines):
        axes.legend(fontsize=7, frameon=False)


def thinned(at: np.ndarray, values: np.ndarray, points: int = _POINTS) -> tuple[np.ndarray, ...]:
    """A curve (N,) -> at most `points` places with minimum, mean and maximum of what lies around each.

    What is not finite is left out.
    """
    finite = np.isfinite(values)
    at, values = at[finite], values[finite]
    if len(at) <= points:
        return at, values, values, values
    starts = np.linspace(0, len(at), points + 1).astype(int)[:-1]
    counts = np.diff([*starts, len(at)])
    return (np.add.reduceat(at, starts) / counts, np.minimum.reduceat(values, starts),
            np.add.reduceat(values, starts) / counts, np.maximum.reduceat(values, starts))
