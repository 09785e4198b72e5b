"""Report of `mae-backbone auto`: metrics, times, curves, and pictures of the validation."""
import csv
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_backbone.evaluation.metrics import metric_text
from mae_backbone.prediction.validation_pictures import FOLDER
from mae_backbone.utils.html_report import data_uri, figure, heading, html_table, link, page, paragraph

_KINDS = {'.png': 'image/png', '.jpg': 'image/jpeg'}


def report_page(folder: Path, data: str, checkpoint: str, steps: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the page as HTML.

    Args:
        folder: folder of the run, with `pretrain`, `train` and `test`; steps that the plan does not have are missing.
        data: folder of the data.
        checkpoint: file of the result.
        steps: name of each finished step -> its `seconds` and `metrics`.
    """
    parts: list[str] = [paragraph(f'Data: {os.path.abspath(data)}. Checkpoint: {checkpoint}.')]
    if steps.get('test'):
        rows = [(name, metric_text(value)) for name, value in steps['test']['metrics'].items()]
        parts += [heading('Results'), html_table(['metric', 'value'], rows), paragraph(
            'Measured on the split named test if the data have one with labels, otherwise on the validation set.')]
    if table := _read_csv(folder / 'test' / 'classes_test.csv'):
        parts += [heading('Results of each class, scores in percent', 3), html_table(table[0], table[1:])]
    parts += _picture(folder / 'test' / 'confusion_test.png', 'Confusion of the classes')
    if picture := _latest(folder / 'train' / FOLDER):
        parts += [heading('Validation images'), *_picture(
            picture, 'Truth on the left, prediction on the right, in the last validation of the training')]
    if picture := _latest(folder / 'pretrain' / 'reconstructions'):
        parts += [heading('Pretraining'), *_picture(
            picture, 'Images, their visible patches, and the reconstructions, at the end of the pretraining')]
    parts += [heading('Time'), html_table(['step', 'minutes, without interrupted attempts'], [
        (name, f'{step["seconds"] / 60:.1f}') for name, step in steps.items()])]
    parts.append(link('plan.html', 'The plan: data, settings and reasons'))
    for name in ('pretrain', 'train'):
        for path in sorted((folder / name).glob('training*.png')):
            parts += _picture(path, f'{name}: {path.stem}')
    return page(f'{Path(data).resolve().name}: planned and trained', parts)


def _latest(folder: Path) -> Path | None:
    """The picture of a folder that was written last; None without one. File managers write hidden files next to it."""
    pictures = (file for file in folder.glob('[!.]*') if file.suffix in _KINDS)
    return max(pictures, key=os.path.getmtime, default=None)


def _picture(path: Path, caption: str) -> list[str]:
    return [figure(data_uri(path.read_bytes(), _KINDS[path.suffix]), caption)] if path.exists() else []


def _read_csv(path: Path) -> list[list[str]]:
    """Rows of the file, with fractions rounded to one digit; empty if it does not exist."""
    if not path.exists():
        return []
    with path.open(encoding='utf-8', newline='') as file:
        return [[f'{float(cell):.1f}' if re.fullmatch(r'\d+\.\d+', cell) else cell for cell in row]
                for row in csv.reader(file)]
