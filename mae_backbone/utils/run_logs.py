"""What a program knows of the tools that it starts: how far they are, what they logged, their last lines."""
import json
import re
from pathlib import Path

DONE = 'done'  # in the folder of a step: it is finished, and took that many seconds


def tail(path: Path, characters: int = 4000) -> str:
    """The end of a log, nothing where there is none."""
    if not path.is_file():
        return ''
    with open(path, 'rb') as file:
        file.seek(max(0, path.stat().st_size - characters))
        return file.read().decode('utf-8', 'replace')


def progress(log: str) -> str:
    """The end of a log of MMEngine -> how far it is, and when it will be done."""
    found = re.findall(r'\((train|val)\)\s+\[\s*(\d+)/(\d+)\].*?eta: (\S+)', log)
    return f'{found[-1][0]} {found[-1][1]}/{found[-1][2]}, {found[-1][3]} left' if found else 'starting'


def curve(folder: Path, key: str) -> list[tuple[int, float]]:
    """(step, value) of what a run of MMEngine logged under `key`, over all its attempts.

    Raises:
        ValueError: it logged nothing of that name.
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
    """A line of the log; what a killed run was writing is none."""
    try:
        return json.loads(line)
    except ValueError:
        return {}
