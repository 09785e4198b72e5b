"""Which classes are taken for which: a table, a picture, and how well each class is found."""
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.evaluation.knn import gather
from mae_backbone.registry import HOOKS
from mae_backbone.utils.atomic_write import write_bytes, write_text

_NAMED = 40  # classes whose names can be read in a picture
_NUMBERED = 15  # classes that leave room for numbers


@HOOKS.register_module()
class ConfusionHook(Hook):
    """Writes `confusion_val.png`, `confusion_val.csv` and `classes_val.json` into the work directory, or `..._test`.

    The table has a row for each true class, and in it the number of images that were taken for each class. The JSON has
    accuracy and images of each class, and the pairs that are mixed up most. Needs predictions as `ViTClassifier` makes
    them, dict(scores=(classes,), label=int).

    Args:
        pairs: how many pairs of classes to list.
    """

    priority = 'LOW'

    def __init__(self, *, pairs: int = 20) -> None:
        self.pairs = pairs
        self.answers: list[tuple[int, int]] = []  # true class and best guess of each image of this process
        self.classes = 0

    def before_val_epoch(self, runner: Runner) -> None:
        self.answers = []

    def before_test_epoch(self, runner: Runner) -> None:
        self.answers = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: Sequence[dict] | None = None) -> None:
        self._note(outputs or ())

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                        outputs: Sequence[dict] | None = None) -> None:
        self._note(outputs or ())

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._write(runner, runner.val_dataloader.dataset, 'val')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._write(runner, runner.test_dataloader.dataset, 'test')

    def _note(self, outputs: Sequence[dict]) -> None:
        if not outputs:
            return
        labels = [output['label'] for output in outputs]
        guesses = torch.stack([output['scores'] for output in outputs]).argmax(dim=1).tolist()
        self.answers += zip(labels, guesses, strict=True)
        self.classes = max([self.classes, *(len(output['scores']) for output in outputs)])

    def _write(self, runner: Runner, dataset: object, stage: str) -> None:
        # Of few images a process may have none.
        answers = gather(torch.tensor(self.answers, dtype=torch.int64).reshape(-1, 2), len(dataset))
        if not is_main_process() or not len(answers):
            return
        names = [str(name) for name in (getattr(dataset, 'metainfo', None) or {}).get('classes', ())]
        classes = max(self.classes, len(names), int(answers.max()) + 1)  # neighbors know those of their bank alone
        names += [str(label) for label in range(len(names), classes)]
        matrix = confusion_matrix(answers.numpy(), classes=classes)
        write_confusion(matrix, names, Path(runner.work_dir), stage, pairs=self.pairs)
        runner.logger.info(f'classes that are mixed up: {runner.work_dir}/confusion_{stage}.png')


def confusion_matrix(answers: np.ndarray, *, classes: int) -> np.ndarray:
    """answers (N, 2), the true class and the guess of each image -> (true, guess) number of images."""
    return np.bincount(answers[:, 0] * classes + answers[:, 1], minlength=classes ** 2).reshape(classes, classes)


def write_confusion(matrix: np.ndarray, names: Sequence[str], folder: Path, stage: str, *, pairs: int = 20) -> None:
    """Writes a confusion matrix (true, guess) as a picture, a table and a summary; each file whole or not at all."""
    table = io.StringIO()
    csv.writer(table, lineterminator='\n').writerows([['true / guess', *names], *(
        [name, *row] for name, row in zip(names, matrix.tolist(), strict=True))])
    write_text(folder / f'confusion_{stage}.csv', table.getvalue())
    write_text(folder / f'classes_{stage}.json', json.dumps(summary(matrix, names, pairs=pairs), indent=1))
    write_bytes(folder / f'confusion_{stage}.png', draw(matrix, names))


def summary(matrix: np.ndarray, names: Sequence[str], *, pairs: int = 20) -> dict:
    """matrix (true, guess) -> accuracy in percent over all and by class, and the pairs that are mixed up most."""
    images, right = matrix.sum(axis=1), matrix.diagonal()
    wrong = matrix - np.diag(right)
    worst = [divmod(int(place), len(matrix)) for place in np.argsort(-wrong, axis=None, kind='stable')[:pairs]]
    return {'accuracy': 100 * float(right.sum() / max(1, images.sum())),
            'classes': {name: {'images': int(images[i]), 'accuracy': 100 * float(right[i] / images[i])}
                        for i, name in enumerate(names) if images[i]},
            'mixed_up': [{'true': names[i], 'guess': names[j], 'images': int(wrong[i, j]),
                          'share_of_true': 100 * float(wrong[i, j] / images[i])} for i, j in worst if wrong[i, j]]}


def draw(matrix: np.ndarray, names: Sequence[str]) -> bytes:
    """matrix (true, guess) -> a picture (PNG): each row in shares of its class, so that small classes show too."""
    shares = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    few = len(names) <= _NAMED
    side = 3.2 + 0.42 * len(names) if few else 10
    figure = Figure(figsize=(side + 1, side), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Of many classes most shares are small, and a class is a pixel wide.
    shown = axes.imshow(100 * shares, cmap='Blues', norm=PowerNorm(1 if few else 0.4, 0, 100), interpolation='nearest')
    axes.set(xlabel='guess', ylabel='true class')
    if few:
        axes.set_xticks(range(len(names)), names, rotation=45, ha='right', rotation_mode='anchor')
        axes.set_yticks(range(len(names)), names)
    if len(names) <= _NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if matrix[row, column]:
                axes.text(column, row, f'{100 * share:.0f}', ha='center', va='center',
                          color='white' if share > 0.5 else 'black', fontsize=8)
    figure.colorbar(shown, ax=axes, label='% of the true class', shrink=0.8)
    picture = io.BytesIO()
    figure.savefig(picture, format='png', dpi=110)
    return picture.getvalue()
