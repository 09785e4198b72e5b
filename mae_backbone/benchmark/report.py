"""Report of a benchmark: two implementations of the same work, measured in turns, as a table and as JSON."""
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mae_backbone.utils.atomic_write import write_text


class Side(NamedTuple):
    """Measurement of one of the two implementations."""

    throughput: float         # images/s, of the median round
    memory: int               # peak, in bytes beyond the imports
    settings: dict            # options of the run
    parts: dict = {}          # seconds of each part of a step or an image, of the median round  # noqa: RUF012
    figures: dict = {}        # other numbers, such as model FLOPs per image  # noqa: RUF012


class Report(NamedTuple):
    """Result of a benchmark. The range of the ratio over the rounds shows the noise of the machine."""

    name: str
    machine: dict
    ours: Side
    baseline: Side | None  # None if it does not fit into memory
    ratios: tuple[float, ...]  # ratio of throughputs in each round; () without a baseline
    note: str = ''
    against: str = 'baseline'  # name of the baseline, for the headings

    @property
    def ratio(self) -> dict[str, float] | None:
        """Ours divided by the baseline: throughput (more is better; the median round) and memory (less is better)."""
        return None if self.baseline is None else {
            'throughput': statistics.median(self.ratios),
            'memory': self.ours.memory / max(self.baseline.memory, 1)}

    def to_dict(self) -> dict:
        """Content of the JSON file."""
        return {'benchmark': self.name, 'against': self.against, 'machine': self.machine, 'ours': _flat(self.ours),
                'baseline': self.baseline and _flat(self.baseline), 'ratio': self.ratio,
                'ratios': list(self.ratios), 'note': self.note}


def measure_in_turns(ours: Callable[[], float], baseline: Callable[[], float], *, rounds: int,
                     warmup: int = 1) -> tuple[list[float], list[float]]:
    """Calls both in turns, so that other load of the machine affects both.

    Returns:
        Their return values, such as seconds, in the rounds after the warm-up.
    """
    pairs = [(ours(), baseline()) for _ in range(warmup + rounds)][warmup:]
    first, second = zip(*pairs, strict=True)
    return list(first), list(second)


def round_ratios(ours: list[float], baseline: list[float]) -> tuple[float, ...]:
    """Seconds of each round -> ratio of throughputs in each round."""
    return tuple(b / a for a, b in zip(ours, baseline, strict=True))


def median_parts(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Seconds of the parts in each round -> the median of each part."""
    return {name: statistics.median(parts[name] for parts in rounds) for name in rounds[0]}


def table(report: Report) -> str:
    """Formats a report for a terminal."""
    ours, baseline, ratio = report.ours, report.baseline, report.ratio
    if baseline is None or ratio is None:
        return '\n'.join([title(report), f'images/s     {ours.throughput:,.2f}',
                          f'peak memory  {bytes_text(ours.memory)}', f'{report.against:<12} {report.note}'])
    rows = [('', 'ours', report.against, f'ours / {report.against}'),
            ('images/s', f'{ours.throughput:,.2f}', f'{baseline.throughput:,.2f}',
             f'{ratio["throughput"]:.2f} ({min(report.ratios):.2f} to {max(report.ratios):.2f} over the rounds)'),
            ('peak memory', bytes_text(ours.memory), bytes_text(baseline.memory), f'{ratio["memory"]:.2f}')]
    rows += [_row(name, ours.parts, baseline.parts, lambda seconds: f'{1e3 * seconds:,.1f} ms')
             for name in dict.fromkeys([*ours.parts, *baseline.parts])]
    rows += [_row(name, ours.figures, baseline.figures, lambda number: f'{number:,.3g}')
             for name in dict.fromkeys([*ours.figures, *baseline.figures])]
    rows += [(*_row(name, ours.settings, baseline.settings, str)[:3], '')
             for name in dict.fromkeys([*ours.settings, *baseline.settings])]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ['  '.join([row[0].ljust(widths[0]), row[1].rjust(widths[1]), row[2].rjust(widths[2]), row[3]]).rstrip()
             for row in rows]
    return '\n'.join([title(report), *lines])


def title(report: Report) -> str:
    """First line of a table: the benchmark and the machine."""
    return f'{report.name}: ' + ', '.join(f'{name} {value}' for name, value in report.machine.items())


def check_json(path: str | Path) -> None:
    """Creates the folder of a JSON file. Raises OSError if the file cannot be written, before a long measurement."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f'--json {path} is a folder: pass the name of a file')
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f'--json {path}: its folder may not be written by this user: choose another one')


def write_json(content: dict, path: str | Path) -> None:
    """Writes a JSON file, and creates its folder."""
    check_json(path)
    write_text(path, json.dumps(content, indent=2) + '\n')


def bytes_text(number: float) -> str:
    """Bytes -> text such as 1.50 GiB."""
    for unit in ('B', 'KiB', 'MiB'):
        if abs(number) < 1024:
            return f'{number:.3g} {unit}'
        number /= 1024
    return f'{number:.2f} GiB'


def _row(name: str, ours: dict, baseline: dict, text: Callable[..., str]) -> tuple[str, str, str, str]:
    """Name, both values as text, and their ratio if both are positive floats."""
    mine, other = ours.get(name), baseline.get(name)
    ratio = ''
    if isinstance(mine, float) and isinstance(other, float) and mine > 0 and other > 0:
        ratio = f'{mine / other:.2f}'
    return (name, text(ours[name]) if name in ours else '-', text(baseline[name]) if name in baseline else '-', ratio)


def _flat(side: Side) -> dict:
    return {'throughput': side.throughput, 'peak_memory': side.memory, 'settings': side.settings, 'parts': side.parts,
            **side.figures}
