"""Finds the results of `mae-backbone transfer` for a checkpoint in the folders next to it."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.checkpoints.conversion.files import read_json


def transfer_results(checkpoint: Path) -> list[tuple[str, ...]]:
    """Returns the rows of the tables of `mae-backbone transfer` for a checkpoint and its references.

    Reads `results.json` in the folder of the checkpoint, and in folders `transfer*` inside and next to this folder.

    Returns:
        Rows (task, data, metric, labels, encoder, value, seeds); empty if there are no results.
    """
    folder = checkpoint.absolute().parent
    files = [folder / 'results.json', *sorted(folder.glob('transfer*/results.json')),
             *sorted(folder.parent.glob('transfer*/results.json'))]
    rows = []
    for file in files:
        record = read_json(file)
        models = _models(record.get('encoders'), checkpoint)
        table = record.get('table')
        if models and isinstance(table, list):
            rows += [_row(row) for row in table if isinstance(row, dict) and row.get('model') in models]
    return rows


def _models(encoders: object, checkpoint: Path) -> set[str]:
    """Returns the names of the encoders of an experiment that are this checkpoint or a reference.

    Empty if the experiment did not evaluate this checkpoint.
    """
    names, found = set(), False
    for encoder in encoders if isinstance(encoders, list) else []:
        if not isinstance(encoder, dict) or not isinstance(encoder.get('name'), str):
            continue
        path = Path(encoder['checkpoint']) if isinstance(encoder.get('checkpoint'), str) else None
        same = path is not None and (path.parent.name, path.name) == (checkpoint.absolute().parent.name,
                                                                     checkpoint.name)
        found |= same
        if same or encoder.get('reference'):
            names.add(encoder['name'])
    return names if found else set()


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = row.get('summary')
    summary: dict[str, Any] = found if isinstance(found, dict) else {}
    mean, std = (summary.get(key) for key in ('mean', 'std'))
    value = f'{mean:.1f}' if isinstance(mean, (int, float)) else ''
    value += f' ± {std:.1f}' if isinstance(std, (int, float)) else ''
    labels = row.get('labels')
    return (str(row.get('task')), str(row.get('data')), str(row.get('metric')),
            f'{labels * 100:.3g} %' if isinstance(labels, (int, float)) else '', str(row.get('model')), value,
            str(summary.get('seeds', '')))
