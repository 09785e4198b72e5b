"""Logs of tools that another program started: progress, logged scalars, last lines."""
import json
import re
from pathlib import Path

DONE = 'done'  # file in the folder of a finished step, with the seconds that it took


def tail(path: Path, characters: int = 4000) -> str:
    """The end of a log file; empty if there is none."""
    if not path.is_file():
        return ''
    with open(path, 'rb') as file:
        file.seek(max(0, path.stat().st_size - characters))
        return file.read().decode('utf-8', 'replace')


def progress(log: str) -> str:
    """The end of an MMEngine log -> iteration and remaining time, as text."""
    matches = re.findall(r'\((train|val)\)\s+\[\s*(\d+)/(\d+)\].*?eta: (\S+)', log)
    return f'{matches[-1][0]} {matches[-1][1]}/{matches[-1][2]}, {matches[-1][3]} left' if matches else 'starting'


def curve(folder: Path, key: str) -> list[tuple[int, float]]:
    """(step, value) of everything that an MMEngine run logged under `key`, over all its attempts.

    Raises:
        ValueError: the run logged no such key.
    """
    values = {}
    for file in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in file.read_text(encoding='utf-8').splitlines():
            entry = _entry(line)
            if key in entry:
                values[int(entry['step'])] = float(entry[key])
    if not values:
        raise ValueError(f'{folder} has no logged {key}: delete the folder and run the same command again')
    return sorted(values.items())


def _entry(line: str) -> dict:
    """A line of the log; empty for a line that a killed run did not complete."""
    try:
        return json.loads(line)
    except ValueError:
        return {}
