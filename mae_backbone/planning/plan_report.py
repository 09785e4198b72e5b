"""HTML report of a plan: costs, charts and samples of the data, and the settings with their reasons."""
import io
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mae_backbone.data.decode import BadImageError
from mae_backbone.data.reading import read_shown
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.planning.fingerprint import Fingerprint
from mae_backbone.planning.machine import Machine
from mae_backbone.planning.own_data import OwnData
from mae_backbone.planning.plan import Plan, Stage, shown
from mae_backbone.planning.rules.encoder import GIGABYTE
from mae_backbone.planning.rules.lengths import hours_text
from mae_backbone.utils.fonts import plot_label, set_fonts
from mae_backbone.utils.html_report import data_uri, gallery, heading, html_table, page, paragraph, preformatted
from mae_backbone.utils.image_grid import to_height

_NUM_SAMPLES, _HEIGHT = 8, 180
_MAX_BARS = 30
_COLOR = '#3b75af'
_WIDE = 3.0  # largest width / height of a sample. Wider samples are cropped


def report_page(plan: Plan, fingerprint: Fingerprint, machine: Machine, data: OwnData, commands: Sequence[str]) -> str:
    """Returns the report as HTML without external resources.

    Args:
        plan: final plan.
        fingerprint: fingerprint of the data.
        machine: machine of the plan.
        data: data set from which samples are drawn.
        commands: command lines that run the plan.
    """
    parts: list[str] = [paragraph(_summary(plan, fingerprint, machine)), preformatted('\n'.join(commands))]
    if plan.warnings:
        parts += [heading('Warnings'), html_table(['', 'what to look at'], [
            (str(number), text) for number, text in enumerate(plan.warnings, start=1)], wrap=True)]
    parts += [heading('Cost'), html_table(
        ['training', 'iterations', 'batch', 's / iteration', 'expected time', 'memory'], list(map(_cost, plan.stages)))]
    parts += [heading('Data'), html_table(['fact', 'value'], _facts(fingerprint), wrap=True)]
    parts += [gallery(_figures(fingerprint, plan), 'Fingerprint of the training set')]
    samples = _samples(data)
    if samples:
        parts.append(gallery(samples, 'Samples of the training set: check that the labels are in the right place'))
    parts.append(heading('Settings and reasons'))
    rows: list[Sequence[str]] = [('decisions',)]
    rows += [(choice.name, shown(choice.value), choice.reason, choice.source) for choice in plan.decisions]
    for stage in plan.stages:
        rows.append((f'{stage.task}: differences to configs/{stage.base}.py',))
        rows += [(choice.name, shown(choice.value), choice.reason, choice.source) for choice in stage.choices]
    parts.append(html_table(['setting', 'value', 'reason', 'source of the rule'], rows, wrap=True))
    if fingerprint.notes:
        parts += [heading('Notes on the files'), preformatted('\n'.join(fingerprint.notes))]
    return page(f'Plan for {fingerprint.root}', parts)


def _summary(plan: Plan, fingerprint: Fingerprint, machine: Machine) -> str:
    minutes = sum(stage.minutes for stage in plan.stages)
    return (f'{fingerprint.task.capitalize()} on {fingerprint.num_train:,} training images'
            + (f' in {len(fingerprint.classes)} classes' if len(fingerprint.classes) > 1 else '')
            + f'. Machine: {machine.name}, {machine.cpus} CPUs, {machine.memory / GIGABYTE:.1f} GB free, '
            f'{machine.gflops:,.0f} GFLOP/s, {machine.disk:,.0f} MB/s from disk. All trainings together take about '
            f'{_time(minutes)} without validations; allowed: {hours_text(plan.hours)}. Every setting is in the '
            'config, where you can change it.')


def _time(minutes: float) -> str:
    if minutes < 1:
        return f'{minutes * 60:.0f} seconds'
    return f'{minutes:.0f} minutes' if minutes < 120 else f'{minutes / 60:.1f} hours'


def _cost(stage: Stage) -> Sequence[str]:
    memory = f'{stage.cost.memory / GIGABYTE:.1f} GB' if stage.cost.memory else 'not measured'
    kind = 'measured' if stage.cost.measured else 'estimated'
    return (stage.task, f'{stage.iterations:,}', str(stage.cost.batch), f'{stage.cost.seconds:.3g} ({kind})',
            _time(stage.minutes), memory)


def _facts(f: Fingerprint) -> list[Sequence[str]]:
    def spread(values: dict[str, float]) -> str:
        return f'{values["5"]:.0f} to {values["95"]:.0f}, median {values["50"]:.0f}' if values else '-'
    rows: list[Sequence[str]] = [
        ('images', ', '.join(f'{split} {count:,}' for split, count in f.images.items())
         + (f'; {f.unreadable:,} files cannot be read' if f.unreadable else '')),
        ('width, height in pixels (5 to 95 %)', f'{spread(f.width)}; {spread(f.height)}'),
        ('channels and bits', f'{f.channels} of {f.bits} bits' + ', all channels equal' * f.gray),
        ('mean, deviation', f'{shown(f.mean)}, {shown(f.std)}'),
        ('patches without contrast', f'{f.flat:.0%}'),
        ('equal files', f'{f.equal_images:,}'),
        ('images similar to another image', f'{f.similar_images:,} of {f.num_compared:,} that were compared'),
        ('validation images equal or similar to a training image', f'{f.leaks:,}'),
    ]
    if f.objects is not None:
        o = f.objects
        rows += [('objects', f'{o.count:,}, ' + ('with masks' if o.has_masks else 'boxes only')
                  + f'; in an image {o.per_image["50"]:.0f} (median) to {o.per_image["max"]:.0f}'),
                 ('side of objects in pixels', spread(o.sides)),
                 ('height / width of objects', f'{o.ratios["5"]:.2g} to {o.ratios["95"]:.2g}'),
                 ('objects with an IoU above 0.5 with another object of their class', f'{o.crowded:.1%}')]
    if len(f.class_counts) > 1:
        rows.append(('most frequent class / rarest class', f'{f.imbalance:,.1f}'))
    return rows


# ---- figures

def _figures(fingerprint: Fingerprint, plan: Plan) -> dict[str, str]:
    figures = {'sizes of images': _svg(lambda axes: _size_bars(axes, fingerprint), 'Sizes of images')}
    if len(fingerprint.class_counts) > 1:
        figures['classes'] = _svg(lambda axes: _class_bars(axes, fingerprint), {
            'detection': 'Objects of each class', 'segmentation': 'Pixels of each class'}.get(
                fingerprint.task, 'Images of each class'))
    if fingerprint.objects is not None:
        figures['sizes of objects'] = _svg(lambda axes: _object_histogram(axes, fingerprint),
                                           'Sizes of objects in the files')
    return figures


def _svg(draw: Any, title: str) -> str:
    from matplotlib.figure import Figure
    picture = Figure(figsize=(4.6, 3.2), layout='constrained')
    axes = picture.add_subplot()
    draw(axes)
    axes.set_title(title, fontsize=11)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    set_fonts(picture)
    picture.savefig(buffer, format='svg')
    return data_uri(buffer.getvalue(), 'image/svg+xml')


def _size_bars(axes: Any, fingerprint: Fingerprint) -> None:
    """Draws the percentiles of width and height of the images."""
    for values, name, color in ((fingerprint.width, 'width', _COLOR), (fingerprint.height, 'height', '#c0504d')):
        axes.plot([float(rank) for rank in values], list(values.values()), marker='o', markersize=3, label=name,
                  color=color)
    axes.set_xlabel('percentile of the images')
    axes.set_ylabel('pixels')
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)


def _class_bars(axes: Any, fingerprint: Fingerprint) -> None:
    counts = sorted(zip(fingerprint.class_counts, fingerprint.classes, strict=True), reverse=True)
    if len(counts) > _MAX_BARS:
        axes.plot(range(1, len(counts) + 1), [max(count, 0.5) for count, _ in counts], color=_COLOR)
        axes.set_xlabel(f'{len(counts)} classes by frequency')
    else:
        names = [plot_label(name, longest=17) for _, name in counts]
        axes.barh(range(len(counts)), [max(count, 0.5) for count, _ in counts], color=_COLOR)
        axes.set_yticks(range(len(counts)), names, fontsize=8)
        axes.invert_yaxis()
    if counts and counts[0][0] > 20 * max(1, counts[-1][0]):
        (axes.set_yscale if len(counts) > _MAX_BARS else axes.set_xscale)('log')


def _object_histogram(axes: Any, fingerprint: Fingerprint) -> None:
    assert fingerprint.objects is not None
    boxes = np.array(fingerprint.objects.boxes)
    sides = np.maximum(np.sqrt(boxes[:, 0] * boxes[:, 1]), 1)
    low, high = math.floor(math.log2(sides.min())), math.ceil(math.log2(sides.max() + 1))
    axes.hist(sides, bins=2.0 ** np.arange(low, high + 0.25, 0.25), color=_COLOR)
    axes.set_xscale('log', base=2)
    axes.xaxis.set_major_formatter(lambda value, position: f'{value:g}')
    axes.set_xlabel('root of the area of the box in pixels')
    axes.set_ylabel('objects')


def _samples(data: OwnData) -> dict[str, str]:
    import cv2
    data_format = data.splits['train']
    samples: dict[str, str] = {}
    paths = evenly_spaced(data.image_paths('train'), _NUM_SAMPLES)
    data_format.read_labels(paths)
    for path in paths:
        try:
            picture = data_format.draw(read_shown(path, data_format.reading), path)
        except (BadImageError, OSError, KeyError, ValueError):
            continue
        picture = to_height(picture, _HEIGHT)[:, :int(_WIDE * _HEIGHT)]
        done, content = cv2.imencode('.jpg', picture[..., ::-1])
        if done:
            samples[os.path.relpath(path, data.root)] = data_uri(content.tobytes(), 'image/jpeg')
    return samples
