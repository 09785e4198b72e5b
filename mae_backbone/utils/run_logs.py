"""Logs of MMEngine runs in child processes: their progress, logged values and last lines."""
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CPU_TIME = 'cpu_time.jsonl'  # metrics over the minutes of a training, in its work directory
IMAGE_RESULTS = 'image_results.json'  # which images of the last validation a classifier has right
DONE = 'done'  # file in the folder of a finished step; holds the seconds that the step took


def seconds_of_step(folder: Path) -> float | None:
    """Returns the seconds that a finished step took, or None if it is not finished or its file is broken."""
    try:
        return float((folder / DONE).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def tail(path: Path, num_bytes: int = 4000) -> str:
    """Returns the end of a log, or '' if the file does not exist."""
    if not path.is_file():
        return ''
    with open(path, 'rb') as file:
        file.seek(max(0, path.stat().st_size - num_bytes))
        return file.read().decode('utf-8', 'replace')


def progress(log: str) -> str:
    """Returns the iteration and the remaining time that the end of an MMEngine log states."""
    matches = re.findall(r'\((train|val)\)\s+\[\s*(\d+)/(\d+)\].*?eta: (\S+)', log)
    return f'{matches[-1][0]} {matches[-1][1]}/{matches[-1][2]}, {matches[-1][3]} left' if matches else 'starting'


def curve(folder: Path, key: str) -> list[tuple[int, float]]:
    """Returns the (step, value) pairs that an MMEngine run logged under `key`, over all its attempts.

    Raises:
        ValueError: it logged no such value.
    """
    values = {}
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            entry = _parse_line(line)
            if key in entry:
                values[int(entry['step'])] = float(entry[key])
    if not values:
        raise ValueError(f'{folder} has no logged {key}: delete the folder and run the same command again')
    return sorted(values.items())


def cpu_times(work_dir: str | Path) -> list[dict[str, Any]]:
    """Returns the records of `CpuTimeHook` in a run, one dict for each iteration, in order.

    A run that was killed has repeated iterations: the last record of each counts, with the metrics of an earlier one if
    it has none.

    Returns:
        dicts with 'iter', 'cpu_minutes' and 'minutes' of training until then, and 'metrics', empty without validation.
    """
    merged: dict[int, dict[str, Any]] = {}
    for record in _cpu_time_lines(Path(work_dir, CPU_TIME)):
        earlier = merged.get(record['iter'], {})
        merged[record['iter']] = record | {'metrics': record['metrics'] or earlier.get('metrics', {})}
    return [merged[iteration] for iteration in sorted(merged)]


def _cpu_time_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Lines that are complete: a killed run may have cut off its last one."""
    for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
        record = _parse_line(line)
        if {'iter', 'cpu_minutes', 'minutes', 'metrics'} <= record.keys():
            yield record


def _parse_line(line: str) -> dict[str, Any]:
    """Returns the values in a line of the log, or {} if a killed run did not complete the line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return entry if isinstance(entry, dict) else {}


class ProgressLine:
    """Progress of running steps: in place on a terminal; otherwise a new line every `interval` seconds if it changed.
    """

    def __init__(self, interval: float = 30.0) -> None:
        self.live = sys.stdout.isatty()
        self.interval = 1.0 if self.live else interval
        self.last_time, self.last_line = time.monotonic(), ''

    def show(self, describe: Callable[[], str]) -> None:
        """Prints the line that `describe` returns, at most once per interval."""
        if time.monotonic() - self.last_time < self.interval:
            return
        self.last_time = time.monotonic()
        line = describe()
        if self.live:
            print(f'\r{line[:110]:<110}', end='', flush=True)
        elif line != self.last_line:
            print(line, flush=True)
        self.last_line = line


def print_line(line: str) -> None:
    """Prints a line, over a `ProgressLine` if there is one."""
    print('\r' + ' ' * 110 + '\r' if sys.stdout.isatty() else '', line, sep='', flush=True)
