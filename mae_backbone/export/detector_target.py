"""Detectors -> targets of an export, and the comparison of two lists of objects."""
import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from mae_backbone.export.build import assemble, describe, input_size
from mae_backbone.export.detector import ExportedDetector
from mae_backbone.export.options import ExportOptions
from mae_backbone.export.target import ExportError, ExportTarget
from mae_backbone.export.verify import LIMIT
from mae_backbone.prediction.model import Detector
from mae_backbone.prediction.onnx.prepare import pipeline_settings


def detector_target(model: Detector, options: ExportOptions) -> ExportTarget:
    """Target of a detector: images of any size -> boxes, scores, labels, image, and masks if it has them.

    Raises:
        ExportError: a kind of detector that has no graph here, or an option for other tasks.
    """
    if options.activation != 'logits':
        raise ExportError(f'--{options.activation} is for classifiers and segmenters: a detector returns scores')
    if options.half:
        raise ExportError('--half: boxes of a detector are computed in float32, take --int8, or --half with --part '
                          'pyramid')
    if options.preprocessing and 'size' not in options.axes(('batch', 'size')):
        raise ExportError('--preprocessing of a detector needs --dynamic size: otherwise boxes are in pixels of the '
                          'resized image')
    core = ExportedDetector(model.net)
    settings = {}
    if 'masks' in core.output_names:
        settings['mask_threshold'] = float(model.net.roi_head.test_cfg.mask_thr_binary)
    if options.size is None:
        height, width = (max(side, core.minimum) for side in input_size(model))
        options = dataclasses.replace(options, size=(height, width))
    description = describe(model, options, task='detection', multiple=1, minimum=core.minimum,
                           dynamic=('batch', 'size'), settings=settings,
                           prepare=pipeline_settings(model.config, model.net.data_preprocessor))
    target = assemble(model, options, description, core, core.output_names,
                      output_axes={name: {0: 'objects'} for name in core.output_names})
    if 'size' in description.dynamic:  # axes that must not be equal by chance
        images = torch.nn.functional.pad(target.inputs[0], (0, core.divisor))
        target = dataclasses.replace(target, inputs=(images,))
    return dataclasses.replace(target, compare=objects_error, decides=True)


def objects_error(expected: Sequence[np.ndarray], found: Sequence[np.ndarray],
                  alternatives: Sequence[Sequence[np.ndarray]] = ()) -> float:
    """The largest difference between the objects of two lists: boxes divided by the largest coordinate, scores, masks.

    Objects are the same if image and label are the same. They may be in another order if their scores are about equal.
    Differences of masks count a tenth. An object that only one list has is accepted if its score is about the lowest
    one of its image: the score threshold, or the number of objects that an image may have, cuts there. It is also
    accepted if rounding decides whether the detector finds it: if the scores of two proposals are equal, the one or the
    other suppresses its neighbors. Otherwise the result is infinite.

    Args:
        expected, found: boxes, scores, labels, image, and masks if the detector has them.
        alternatives: results of the detector in PyTorch after changes of the size of rounding errors. Any of them may
            have an object that `expected` lacks, and may lack an object that `expected` has.
    """
    scale = max(1.0, float(np.abs(expected[0]).max(initial=0)))
    lists = [_Objects(values, scale) for values in (expected, found, *alternatives)]
    if any(len(values) != len(expected) or not objects.is_sound()
           for values, objects in zip((expected, found, *alternatives), lists, strict=True)):
        return float('inf')
    ours, other, *others = lists
    error, missing, added = _match(ours, other)
    lacking = [_match(ours, one)[1] for one in others]
    for i in missing:
        if not ours.is_cut(i, other) and not any(i in lacks for lacks in lacking):
            return float('inf')
    for i in added:
        if not other.is_cut(i, ours) and not any(one.has(other, i) for one in others):
            return float('inf')
    return error


def _match(ours: '_Objects', other: '_Objects') -> tuple[float, list[int], list[int]]:
    """Pairs the objects of two lists.

    Returns:
        The largest difference of a pair, and the objects of the first and of the second list without a partner.
    """
    error, missing, free = 0.0, [], np.ones(len(other), bool)
    for i in range(len(ours)):
        candidates = np.flatnonzero(free & (other.keys == ours.keys[i]).all(1))
        differences = other.difference(candidates, ours, i)
        if len(candidates) and differences.min() <= 10 * LIMIT:
            free[candidates[differences.argmin()]] = False
            error = max(error, float(differences.min()))
        else:
            missing.append(i)
    return error, missing, np.flatnonzero(free).tolist()


class _Objects:
    """Objects of a batch.

    Args:
        values: outputs of a detector.
        scale: that boxes are divided by.
    """

    def __init__(self, values: Sequence[np.ndarray], scale: float) -> None:
        self.values = values
        boxes, scores, labels, image, *masks = values
        self.keys = np.stack([labels, image], axis=1)
        self.scores, self.image = scores, image
        # Our choice: masks have a weight of 0.1, because their probabilities are crops at the boxes and repeat their
        # differences.
        self.numbers = np.concatenate([boxes / scale, scores[:, None], *(
            one.reshape(len(one), -1) / 10 for one in masks)], axis=1)

    def __len__(self) -> int:
        return len(self.scores)

    def is_sound(self) -> bool:
        """True if all values are finite."""
        return bool(np.isfinite(self.numbers).all())

    def difference(self, index: np.ndarray, other: '_Objects', i: int) -> np.ndarray:
        """The largest difference of each of some objects to an object of another list."""
        return np.abs(self.numbers[index] - other.numbers[i]).max(axis=1, initial=0)

    def has(self, other: '_Objects', i: int) -> bool:
        """True if the list has about the same object as another list."""
        index = np.flatnonzero((self.keys == other.keys[i]).all(1))
        return bool(self.difference(index, other, i).min(initial=np.inf) <= 10 * LIMIT)

    def is_cut(self, i: int, other: '_Objects') -> bool:
        """True if an object may be missing in the other list, since its score is about the lowest one of both."""
        scores = [one.scores[one.image == self.image[i]].min(initial=1.0) for one in (self, other)]
        return bool(self.scores[i] <= min(scores) + LIMIT)
