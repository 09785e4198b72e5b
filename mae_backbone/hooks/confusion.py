"""Confusion matrix of a classifier: table, picture, and accuracy per class."""
import csv
import io
import json
from collections.abc import Sequence, Sized
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
from mae_backbone.utils.fonts import plot_label, set_fonts

_MAX_NAMES = 40  # classes whose names are legible in the picture
_MAX_NUMBERS = 15  # classes whose cells have room for numbers


@HOOKS.register_module()
class ConfusionHook(Hook):
    """Writes `confusion_val.png`, `confusion_val.csv` and `classes_val.json` (or `..._test`) to the work directory.

    The table has one row per true class with the number of images predicted as each class. The JSON file has accuracy
    and number of images of each class, and the pairs of classes that are confused most. The model must return
    predictions like `ViTClassifier`: dict(scores=(num_classes,), label=int).

    Args:
        pairs: number of confused pairs to list.
    """

    priority = 'LOW'

    def __init__(self, *, pairs: int = 20) -> None:
        self.pairs = pairs
        self.predictions: list[tuple[int, int]] = []  # true and predicted class of each image of this process
        self.num_classes = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Starts a new matrix."""
        self.predictions = []

    def before_test_epoch(self, runner: Runner) -> None:
        """Starts a new matrix."""
        self.predictions = []

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: Sequence[dict] | None = None) -> None:
        """Collects the predictions of a batch."""
        self._collect(outputs or ())

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                        outputs: Sequence[dict] | None = None) -> None:
        """Collects the predictions of a batch."""
        self._collect(outputs or ())

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Writes the files of the validation."""
        self._write(runner, runner.val_dataloader.dataset, 'val')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Writes the files of the test."""
        self._write(runner, runner.test_dataloader.dataset, 'test')

    def _collect(self, outputs: Sequence[dict]) -> None:
        if not outputs:
            return
        labels = [output['label'] for output in outputs]
        predicted = torch.stack([output['scores'] for output in outputs]).argmax(dim=1).tolist()
        self.predictions += zip(labels, predicted, strict=True)
        self.num_classes = max([self.num_classes, *(len(output['scores']) for output in outputs)])

    def _write(self, runner: Runner, dataset: Sized, stage: str) -> None:
        # With few images a process may have none.
        predictions = gather(torch.tensor(self.predictions, dtype=torch.int64).reshape(-1, 2), len(dataset))
        if not is_main_process() or not len(predictions):
            return
        names = [str(name) for name in (getattr(dataset, 'metainfo', None) or {}).get('classes', ())]
        # Nearest neighbors only have scores of the classes in their bank.
        num_classes = max(self.num_classes, len(names), int(predictions.max()) + 1)
        names += [str(label) for label in range(len(names), num_classes)]
        matrix = confusion_matrix(predictions.numpy(), num_classes=num_classes)
        write_confusion(matrix, names, Path(runner.work_dir), stage, pairs=self.pairs)
        runner.logger.info(f'confusion matrix: {runner.work_dir}/confusion_{stage}.png')


def confusion_matrix(predictions: np.ndarray, *, num_classes: int) -> np.ndarray:
    """predictions (N, 2), true and predicted class of each image -> number of images (true, predicted)."""
    codes = predictions[:, 0] * num_classes + predictions[:, 1]
    return np.bincount(codes, minlength=num_classes ** 2).reshape(num_classes, num_classes)


def write_confusion(matrix: np.ndarray, names: Sequence[str], folder: Path, stage: str, *, pairs: int = 20) -> None:
    """Writes a confusion matrix (true, predicted) as picture, table and summary, each file atomically."""
    write_matrix(matrix, names, folder, stage)
    write_text(folder / f'classes_{stage}.json', json.dumps(summary(matrix, names, pairs=pairs), indent=1))


def write_matrix(matrix: np.ndarray, names: Sequence[str], folder: Path, stage: str) -> None:
    """Writes a confusion matrix (true, predicted) as picture and table, each file atomically."""
    table = io.StringIO()
    csv.writer(table, lineterminator='\n').writerows([['true / predicted', *names], *(
        [name, *row] for name, row in zip(names, matrix.tolist(), strict=True))])
    write_text(folder / f'confusion_{stage}.csv', table.getvalue())
    write_bytes(folder / f'confusion_{stage}.png', draw(matrix, names))


def summary(matrix: np.ndarray, names: Sequence[str], *, pairs: int = 20) -> dict:
    """matrix (true, predicted) -> accuracy in percent, overall and per class, and the most confused pairs."""
    images, correct = matrix.sum(axis=1), matrix.diagonal()
    wrong = matrix - np.diag(correct)
    worst = [divmod(int(place), len(matrix)) for place in np.argsort(-wrong, axis=None, kind='stable')[:pairs]]
    return {'accuracy': 100 * float(correct.sum() / max(1, images.sum())),
            'classes': {name: {'images': int(images[i]), 'accuracy': 100 * float(correct[i] / images[i])}
                        for i, name in enumerate(names) if images[i]},
            'mixed_up': [{'true': names[i], 'guess': names[j], 'images': int(wrong[i, j]),
                          'share_of_true': 100 * float(wrong[i, j] / images[i])} for i, j in worst if wrong[i, j]]}


def draw(matrix: np.ndarray, names: Sequence[str]) -> bytes:
    """matrix (true, predicted) -> PNG file. Each row is normalized, so that small classes are visible too."""
    fractions = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    few = len(names) <= _MAX_NAMES
    side = 3.2 + 0.42 * len(names) if few else 10
    figure = Figure(figsize=(side + 1, side), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # With many classes most fractions are small and a class is one pixel wide: a power scale makes them visible.
    image = axes.imshow(100 * fractions, cmap='Blues', norm=PowerNorm(1 if few else 0.4, 0, 100),
                        interpolation='nearest')
    axes.set(xlabel='predicted class', ylabel='true class')
    if few:
        names = [plot_label(name) for name in names]
        axes.set_xticks(range(len(names)), names, rotation=45, ha='right', rotation_mode='anchor')
        axes.set_yticks(range(len(names)), names)
    if len(names) <= _MAX_NUMBERS:
        for (row, column), fraction in np.ndenumerate(fractions):
            if matrix[row, column]:
                axes.text(column, row, f'{100 * fraction:.0f}', ha='center', va='center',
                          color='white' if fraction > 0.5 else 'black', fontsize=8)
    figure.colorbar(image, ax=axes, label='% of the true class', shrink=0.8)
    file = io.BytesIO()
    set_fonts(figure)
    figure.savefig(file, format='png', dpi=110)
    return file.getvalue()
