"""Two ways to do the same work, measured in turns: what is reported of them, as a table and as JSON."""
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Side(NamedTuple):
    """One of the two ways, as measured."""

    throughput: float         # images/s, of the median round
    memory: int               # peak, bytes beyond what the imports take
    settings: dict            # what it was run with
    parts: dict = {}          # seconds of each part of a step or an image, of the median round  # noqa: RUF012
    figures: dict = {}        # other numbers, such as model FLOPs per image  # noqa: RUF012


class Report(NamedTuple):
    """What a benchmark found. The spread says how far the ratio moved from round to round: the noise of the machine."""

    name: str
    machine: dict
    ours: Side
    baseline: Side | None        # None where it does not fit into memory
    spread: tuple[float, float]  # smallest and largest ratio of throughputs in one round
    note: str = ''

    @property
    def ratio(self) -> dict[str, float] | None:
        """Ours over the baseline: throughput (more is better) and memory (less is better)."""
        return self.baseline and {'throughput': self.ours.throughput / self.baseline.throughput,
                'memory': self.ours.memory / max(self.baseline.memory, 1)}

    def to_dict(self) -> dict:
        """For a JSON file."""
        return {'benchmark': self.name, 'machine': self.machine, 'ours': _flat(self.ours),
                'baseline': self.baseline and _flat(self.baseline), 'ratio': self.ratio,
                'ratio_spread': list(self.spread), 'note': self.note}


def in_turns(ours: Callable[[], float], baseline: Callable[[], float], *, rounds: int,
             warmup: int = 1) -> tuple[list[float], list[float]]:
    """Calls both in turns, so that what else the machine does meets both -> what they returned, such as seconds."""
    pairs = [(ours(), baseline()) for _ in range(warmup + rounds)][warmup:]
    first, second = zip(*pairs, strict=True)
    return list(first), list(second)


def spread(ours: list[float], baseline: list[float]) -> tuple[float, float]:
    """Seconds of each round -> smallest and largest ratio of throughputs."""
    ratios = [b / a for a, b in zip(ours, baseline, strict=True)]
    return min(ratios), max(ratios)


def median_parts(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Seconds of the parts in each round -> the median of each part."""
    return {name: statistics.median(parts[name] for parts in rounds) for name in rounds[0]}


def table(report: Report) -> str:
    """The report as lines for a terminal."""
    ours, baseline = report.ours, report.baseline
    if baseline is None:
        return '\n'.join([head(report), f'images/s     {ours.throughput:,.2f}',
                          f'peak memory  {bytes_text(ours.memory)}', f'baseline     {report.note}'])
    rows = [('', 'ours', 'baseline', 'ours / baseline'),
            ('images/s', f'{ours.throughput:,.2f}', f'{baseline.throughput:,.2f}',
             f'{report.ratio["throughput"]:.2f} ({report.spread[0]:.2f} to {report.spread[1]:.2f} over the rounds)'),
            ('peak memory', bytes_text(ours.memory), bytes_text(baseline.memory), f'{report.ratio["memory"]:.2f}')]
    rows += [_row(name, ours.parts, baseline.parts, lambda seconds: f'{1e3 * seconds:,.1f} ms')
             for name in dict.fromkeys([*ours.parts, *baseline.parts])]
    rows += [_row(name, ours.figures, baseline.figures, lambda number: f'{number:,.3g}')
             for name in dict.fromkeys([*ours.figures, *baseline.figures])]
    rows += [(*_row(name, ours.settings, baseline.settings, str)[:3], '')
             for name in dict.fromkeys([*ours.settings, *baseline.settings])]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ['  '.join([row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2]), row[3]]).rstrip()
             for row in rows]
    return '\n'.join([head(report), *lines])


def head(report: Report) -> str:
    """What was measured, and on what."""
    return f'{report.name}: ' + ', '.join(f'{name} {value}' for name, value in report.machine.items())


def write_json(found: dict, path: str | Path) -> None:
    """Writes what was found; folders are made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(found, indent=2) + '\n', encoding='utf-8')


def bytes_text(number: float) -> str:
    """Bytes -> text such as 1.50 GiB."""
    for unit in ('B', 'KiB', 'MiB'):
        if abs(number) < 1024:
            return f'{number:.3g} {unit}'
        number /= 1024
    return f'{number:.2f} GiB'


def _row(name: str, ours: dict, baseline: dict, text: Callable) -> tuple[str, str, str, str]:
    cells = [text(side[name]) if name in side else '-' for side in (ours, baseline)]
    numbers = [side.get(name) for side in (ours, baseline)]
    both = all(isinstance(number, float) and number > 0 for number in numbers)
    return name, *cells, f'{numbers[0] / numbers[1]:.2f}' if both else ''


def _flat(side: Side) -> dict:
    return {'throughput': side.throughput, 'peak_memory': side.memory, 'settings': side.settings, 'parts': side.parts,
            **side.figures}
