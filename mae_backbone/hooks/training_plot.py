"""Hook that plots the whole run to an image file in the work directory, without a server."""
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from mae_backbone.hooks.scalar_history import history, metric_history, metric_names, recorded_names, step_history
from mae_backbone.registry import HOOKS
from mae_backbone.utils.atomic_write import write_bytes
from mae_backbone.utils.fonts import plot_label, set_fonts

_POINTS = 300  # largest number of points of a curve: more are not visible
_COLORS = ('#1f6fb4', '#d9822b', '#2f9e62', '#b5446e', '#6b5bb0', '#7a7a7a')
_DRAWN_ELSEWHERE = ('images_per_s', 'waiting', 'memory', 'rank', 'spread')
_MAX_LINES = 6       # largest number of curves in a panel of metrics
_LOWEST_RATE = 1e-4  # lower end of the axis, as a fraction of the peak learning rate: a warm-up may begin at 1e-9 of it
_PLOTS = 20          # smallest number of plots of a short run
_FIRST = 10.0        # seconds from the start of a training to its first plot, at least
# Inches around and between panels. Matplotlib's layout engines, which measure all labels, take longer than drawing.
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = 0.75, 0.15, 0.65, 0.5, 0.75


@HOOKS.register_module()
class PlotHook(Hook):
    """Plots losses, learning rate, gradient norm, metrics, speed, memory, probes and rank of a run to `training.png`.

    Losses, learning rate and gradient norm have logarithmic axes. The values come from the message hub, which
    checkpoints contain, so a resumed run shows the whole history. The file is replaced atomically.

    Args:
        interval: minimum number of iterations between two plots, at most a twentieth of the run. There is also one at
            the end of every epoch, of every validation, and of the run. Plotting takes at most 1 % of the time: after a
            slow plot the next one is delayed.
        name: file name.
    """

    priority = 'VERY_LOW'  # after all hooks that measure

    def __init__(self, *, interval: int = 500, name: str = 'training.png') -> None:
        self.interval, self.name = interval, name
        self.next_at = 0.0

    def before_train(self, runner: Runner) -> None:
        """Delays the first plot: a training of a few seconds is plotted only at its end."""
        self.next_at = time.perf_counter() + _FIRST

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Plots if the interval ends with this iteration."""
        interval = max(1, min(self.interval, runner.max_iters // _PLOTS))
        if self.every_n_train_iters(runner, interval) and not self.is_last_train_iter(runner):
            self.draw(runner, runner.iter + 1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Plots after a validation during a training."""
        if 0 < runner.iter < runner.max_iters:
            self.draw(runner, runner.iter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Plots at the end of an epoch."""
        if not self.is_last_train_epoch(runner):
            self.draw(runner, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Plots the whole run, even right after the last plot."""
        self.next_at = 0.0
        self.draw(runner, runner.iter)

    @master_only
    def draw(self, runner: Runner, iteration: int) -> None:
        """Plots everything up to an iteration, unless the last plot was too recent."""
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
    iterations: np.ndarray  # (N,)
    values: np.ndarray  # (N,)


class Panel(NamedTuple):
    """One diagram of the plot."""

    title: str
    lines: list[Line]
    log: float = 0.0                            # > 0: logarithmic axis, down to this fraction of the largest value
    form: Callable[[float], str] | None = None  # format of the tick labels
    zero: bool = False                          # axis starts at 0, so that noise is not exaggerated
    scale: float = 1.0                          # factor of the values


def training_picture(hub: MessageHub, iteration: int, *, title: str, epoch: int | None = None) -> bytes:
    """history in a message hub up to an iteration -> PNG file.

    Args:
        epoch: iterations per epoch for an axis in epochs, None for an axis in iterations.
    """
    panels = [panel for panel in all_panels(hub, iteration) if panel.lines]
    columns = 2 if len(panels) < 5 else 3
    rows = -(-max(len(panels), 1) // columns)
    width, height = 5.2 * columns, 0.5 + 3.0 * rows
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    panel_width = (width - _LEFT - _RIGHT - (columns - 1) * _BETWEEN) / columns
    panel_height = (height - _TOP - _BOTTOM - (rows - 1) * _BETWEEN) / rows
    figure.subplots_adjust(_LEFT / width, _BOTTOM / height, 1 - _RIGHT / width, 1 - _TOP / height,
                           _BETWEEN / panel_width, _BETWEEN / panel_height)
    progress = f'epoch {iteration / epoch:.4g}, ' if epoch else ''
    figure.suptitle(f'{title}: {progress}iteration {iteration:,}', fontsize=11, y=1 - 0.12 / height, va='top')
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        draw_panel(axes, panel, scale=epoch or 1)
        axes.set_xlabel('epoch' if epoch else 'iteration', fontsize=8)
        axes.set_xlim(0, max(iteration / (epoch or 1), 1e-9))
    file = io.BytesIO()
    set_fonts(figure)
    figure.savefig(file, format='png', dpi=110)
    return file.getvalue()


def all_panels(hub: MessageHub, iteration: int) -> list[Panel]:
    """Panels from top left to bottom right. Panels without lines are not plotted."""
    def steps(name: str, label: str = '') -> list[Line]:
        line = Line(label, *step_history(hub, name, iteration))
        return [line] if len(line.values) else []

    def at_intervals(*names: str) -> list[Line]:
        lines = [Line(label, *history(hub, name)) for name, label in (entry.split('|') for entry in names)]
        return [line for line in lines if len(line.values)]

    metrics = set(metric_names(hub))
    probes = sorted(name for name in recorded_names(hub) if name not in _DRAWN_ELSEWHERE and
                    name.removeprefix('val/') not in metrics)
    parts = [name.removeprefix('train/') for name in hub.log_scalars if name.startswith('train/')]
    losses = [name for name in parts if 'loss' in name and name != 'loss']
    return [
        Panel('loss', steps('loss'), log=1e-9),
        Panel('parts of the loss', [line for name in losses[:12] for line in steps(name, name)] * (len(losses) > 1),
              log=1e-4),
        Panel('learning rate', steps('lr'), log=_LOWEST_RATE),
        Panel('gradient norm', steps('grad_norm'), log=1e-9),
        Panel('training accuracy, %', [line for name in parts if name.rpartition('.')[2].startswith('acc')
                                       for line in steps(name, name)]),
        Panel('validation', [Line(name, *metric_history(hub, name)) for name in main_metrics(metric_names(hub))]),
        Panel('images/s', at_intervals('images_per_s|'), zero=True,
              form=lambda value: f'{value:,.0f}' if value >= 10 else f'{value:.2g}'),
        Panel('time waiting for images, %', at_intervals('waiting|'), scale=100, zero=True),
        Panel('memory, GB', at_intervals('memory|'), zero=True, scale=1 / 1024),
        Panel('probes: accuracy, %', at_intervals(*(f'{name}|{name}' for name in probes))),
        Panel('effective rank of the features (RankMe)', at_intervals('rank|'), zero=True),
        Panel('spread of the tokens within an image', at_intervals('spread|'), zero=True),
    ]


def main_metrics(names: list[str]) -> list[str]:
    """The metrics of a validation to plot: at most 6, without metrics of object sizes and of classes."""
    chosen = [name for name in names if not name.endswith(('_75', '_s', '_m', '_l', '_precision', 'APr', 'APc', 'APf'))
              and '/class/' not in name]
    return (chosen or names)[:_MAX_LINES]


def draw_panel(axes: Axes, panel: Panel, *, scale: float) -> None:
    """Draws lines over iterations / scale; lines of many points as mean and range."""
    for line, color in zip(panel.lines, _COLORS * (1 + len(panel.lines) // len(_COLORS)), strict=False):
        x, low, mean, high = thinned(line.iterations / scale, line.values * panel.scale)
        if len(x) < len(line.iterations):
            axes.fill_between(x, low, high, color=color, alpha=0.22, linewidth=0)
        axes.plot(x, mean, color=color, linewidth=1.4, marker='o' if len(x) <= 30 else '', markersize=3,
                  label=plot_label(line.label, longest=60))
    axes.set_title(panel.title, fontsize=9, loc='left')
    axes.grid(color='#dddddd', linewidth=0.6)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    largest = max((line.values[np.isfinite(line.values)].max(initial=0.0) for line in panel.lines), default=0.0)
    if panel.log and largest > 0:
        _set_log_axis(axes, panel.log * largest * panel.scale)
    elif panel.form is not None:
        form = panel.form
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))
    if panel.zero:
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    if any(line.label for line in panel.lines):
        axes.legend(fontsize=7, frameon=False)


def _set_log_axis(axes: Axes, lowest: float) -> None:
    """Makes the vertical axis logarithmic, from `lowest` on, with tick labels that are plain numbers."""
    # Matplotlib warns when it scales an axis itself whose values are 0 in part. These are its margins.
    low, high = float(axes.dataLim.minposy), float(axes.dataLim.y1)
    margin = (high / low) ** 0.05 if high > low else 10 ** 1.1
    low, high = max(low / margin, lowest), high * margin
    axes.set_ylim(low, high)
    axes.set_yscale('log')
    if high < 20 * low:  # less than two powers of ten have too few labels
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high > 2 * low else 'all'))
        if high < 2 * low:
            axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:.3g}'))
    axes.yaxis.set_minor_formatter(NullFormatter())


def thinned(x: np.ndarray, values: np.ndarray, points: int = _POINTS) -> tuple[np.ndarray, ...]:
    """curve (N,) -> x, minimum, mean and maximum of at most `points` groups of neighboring points.

    Non-finite values are left out.
    """
    finite = np.isfinite(values)
    x, values = x[finite], values[finite]
    if len(x) <= points:
        return x, values, values, values
    starts = np.linspace(0, len(x), points + 1).astype(int)[:-1]
    counts = np.diff([*starts, len(x)])
    return (np.add.reduceat(x, starts) / counts, np.minimum.reduceat(values, starts),
            np.add.reduceat(values, starts) / counts, np.maximum.reduceat(values, starts))
