"""Hook that writes the confusion matrix of a detector: wrong classes, missed objects, and false detections."""
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_backbone.hooks.confusion import confusion_matrix, write_matrix
from mae_backbone.registry import HOOKS
from mae_backbone.utils.atomic_write import write_text

BACKGROUND = 'background'


@HOOKS.register_module()
class DetectionConfusionHook(Hook):
    """Writes `confusion_val.png`, `confusion_val.csv` and `confusion_val.json` (or `..._test`) to the work directory.

    The matrix contains numbers of boxes, with a row for each true class and a column for each predicted class. The last
    row counts predictions without an object, and the last column objects without a prediction. `match_boxes` matches
    predictions to objects. The JSON file has precision and recall of each class, and the pairs of classes that are
    confused most.

    The true boxes come from the data set (`get_data_info` of mmdet). For data sets without boxes, nothing is written.

    Args:
        threshold: lowest score of a prediction, in [0, 1]; by default as in `mae-backbone predict`.
        iou: smallest overlap of a prediction and its object, in (0, 1].
        pairs: number of confused pairs to list.

    Raises:
        ValueError: an argument is out of range.
    """

    priority = 'LOW'

    def __init__(self, *, threshold: float = 0.3, iou: float = 0.5, pairs: int = 20) -> None:
        if not (0 <= threshold <= 1 and 0 < iou <= 1):
            raise ValueError(f'threshold={threshold} and iou={iou}, expected a score in [0, 1] and an overlap in '
                             '(0, 1]')
        self.threshold, self.iou, self.pairs = threshold, iou, pairs
        self.matches: list[np.ndarray] = []  # matches of each image of this process
        self.indices: dict[Any, int] = {}    # id of an image -> its index in the data set
        self.num_classes = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Starts a new matrix."""
        self._start(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Starts a new matrix."""
        self._start(runner.test_dataloader.dataset)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: Sequence | None = None) -> None:
        """Matches the predictions of a batch."""
        self._collect(runner.val_dataloader.dataset, outputs or ())

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                        outputs: Sequence | None = None) -> None:
        """Matches the predictions of a batch."""
        self._collect(runner.test_dataloader.dataset, outputs or ())

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Writes the files of the validation."""
        self._write(runner, runner.val_dataloader.dataset, 'val')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Writes the files of the test."""
        self._write(runner, runner.test_dataloader.dataset, 'test')

    def _start(self, dataset: Any) -> None:
        self.matches, self.indices = [], {}
        self.num_classes = len((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())
        if hasattr(dataset, 'get_data_info'):
            self.indices = {dataset.get_data_info(i).get('img_id'): i for i in range(len(dataset))}

    def _collect(self, dataset: Any, outputs: Sequence) -> None:
        for output in outputs:
            index = self.indices.get(getattr(output, 'img_id', None))
            objects = None if index is None else dataset.get_data_info(index).get('instances')
            if objects is None or 'pred_instances' not in output:
                continue
            predictions = output.pred_instances
            kept = predictions.scores >= self.threshold
            boxes, scores, labels = (predictions[name][kept].float().cpu().numpy()
                                     for name in ('bboxes', 'scores', 'labels'))
            self.matches.append(match_boxes(
                np.array([entry['bbox'] for entry in objects], np.float64).reshape(-1, 4),
                np.array([entry['bbox_label'] for entry in objects], np.int64), boxes, labels.astype(np.int64), scores,
                ignored=np.array([bool(entry.get('ignore_flag')) for entry in objects], bool),
                background=self.num_classes, iou=self.iou))

    def _write(self, runner: Runner, dataset: Any, stage: str) -> None:
        parts = all_gather_object(self.matches)
        if not is_main_process() or not any(parts):
            return
        # Image i is evaluated by process i modulo their number. The last images may be repeated to fill the batches.
        images = [part[i] for i in range(max(map(len, parts))) for part in parts if i < len(part)][:len(dataset)]
        names = [*map(str, dataset.metainfo['classes']), BACKGROUND]
        matrix = confusion_matrix(np.concatenate(images), num_classes=len(names))
        folder = Path(runner.work_dir)
        write_matrix(matrix, names, folder, stage)
        found = summary(matrix, names, pairs=self.pairs)
        write_text(folder / f'confusion_{stage}.json', json.dumps(
            {'score_of_at_least': self.threshold, 'iou_of_at_least': self.iou, **found}, indent=1))
        runner.logger.info(f'{describe(matrix)} (scores of at least {self.threshold:g}, overlaps of at least '
                           f'{self.iou:g}); confusion matrix: {folder}/confusion_{stage}.png')


def match_boxes(true_boxes: np.ndarray, true_labels: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
                scores: np.ndarray, *, ignored: np.ndarray, background: int, iou: float = 0.5) -> np.ndarray:
    """Matches the predictions of an image to its objects, regardless of their classes.

    Predictions are matched in the order of their scores, each to the unmatched object with the largest overlap of at
    least `iou`. A prediction without a match is ignored if at least the fraction `iou` of its area is in an ignored
    region (a crowd).

    Args:
        true_boxes, true_labels: (M, 4) and (M,), x1, y1, x2, y2 in pixels.
        boxes, labels, scores: (N, 4), (N,) and (N,).
        ignored: (M,) bool, regions that are no single object.
        background: label of predictions without an object, and of objects without a prediction.

    Returns:
        (pairs, 2) int64, the true and the predicted label.
    """
    regions, objects = true_boxes[ignored], true_boxes[~ignored]
    object_labels = true_labels[~ignored]
    overlaps = _intersections(boxes, objects)
    overlaps /= np.maximum(_areas(boxes)[:, None] + _areas(objects)[None] - overlaps, 1e-12)
    covered = (_intersections(boxes, regions) / np.maximum(_areas(boxes)[:, None], 1e-12)).max(1, initial=0.0) >= iou
    is_free, pairs = np.ones(len(objects), bool), []
    for index in np.argsort(-scores, kind='stable').tolist():
        candidates = np.where(is_free, overlaps[index], -1.0)
        best = int(candidates.argmax()) if len(objects) else -1
        if best >= 0 and candidates[best] >= iou:
            is_free[best] = False
            pairs.append((object_labels[best], labels[index]))
        elif not covered[index]:
            pairs.append((background, labels[index]))
    pairs += [(label, background) for label in object_labels[is_free]]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _areas(boxes: np.ndarray) -> np.ndarray:
    """boxes (N, 4) -> (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1).astype(np.float64)


def _intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """boxes (N, 4) and (M, 4) -> areas (N, M) float64."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return (high - low).clip(min=0).prod(2)


def summary(matrix: np.ndarray, names: Sequence[str], *, pairs: int = 20) -> dict:
    """matrix (true, predicted) with the background last -> precision and recall in percent, most confused pairs."""
    correct, objects, predicted = matrix.diagonal()[:-1], matrix[:-1].sum(1), matrix[:, :-1].sum(0)
    wrong = matrix - np.diag(matrix.diagonal())
    wrong[-1], wrong[:, -1] = 0, 0
    worst = [divmod(int(place), len(matrix)) for place in np.argsort(-wrong, axis=None, kind='stable')[:pairs]]
    return {'classes': {name: {'objects': int(objects[i]), 'predictions': int(predicted[i]),
                               'recall': 100 * float(correct[i] / objects[i]) if objects[i] else None,
                               'precision': 100 * float(correct[i] / predicted[i]) if predicted[i] else None}
                        for i, name in enumerate(names[:-1])},
            'mixed_up': [{'true': names[i], 'guess': names[j], 'boxes': int(wrong[i, j])}
                         for i, j in worst if wrong[i, j]]}


def describe(matrix: np.ndarray) -> str:
    """A sentence about a matrix (true, predicted) whose last class is the background."""
    correct, objects = int(matrix.diagonal()[:-1].sum()), int(matrix[:-1].sum())
    mixed = int(matrix[:-1, :-1].sum()) - correct
    return (f'of {objects:,} objects {correct:,} were found, {mixed:,} with a wrong class, '
            f'{int(matrix[:-1, -1].sum()):,} were missed; {int(matrix[-1].sum()):,} predictions were background')
