"""Top-k accuracy against its definition in NumPy."""
import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from mae_backbone.evaluation.metrics import CrossEntropy, TopKAccuracy, label_ranks, metric_text


def predictions(scores: np.ndarray, labels: np.ndarray) -> list[dict]:
    return [{'scores': torch.tensor(score), 'label': int(label)} for score, label in zip(scores, labels, strict=True)]


def evaluate(samples: list[dict], batch: int = 3, meta: dict | None = None, **options: object) -> dict[str, float]:
    evaluator = Evaluator({'type': 'mae_backbone.TopKAccuracy', **options})
    evaluator.dataset_meta = meta
    for i in range(0, len(samples), batch):
        evaluator.process(data_samples=samples[i:i + batch])
    return evaluator.evaluate(len(samples))


def random_samples(seed: int, images: int = 40, classes: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 4, (images, classes)).astype(np.float32), generator.integers(0, classes, images)


@pytest.mark.parametrize('seed', [0, 1])
def test_top_k_accuracy_equals_its_definition(seed: int):
    scores, labels = random_samples(seed)
    guesses = np.argsort(-scores, axis=1, kind='stable')
    wanted = {f'accuracy/top{k}': 100 * np.mean([label in row[:k] for row, label in zip(guesses, labels, strict=True)])
              for k in (1, 2, 5)}
    assert evaluate(predictions(scores, labels), topk=(1, 2, 5)) == pytest.approx(wanted)


def test_per_class_is_top_1_within_each_class():
    scores, labels = random_samples(2)
    labels[labels == 4] = 3  # a class that does not occur
    hit = scores.argmax(axis=1) == labels
    classes = {label: 100 * hit[labels == label].mean() for label in set(labels.tolist())}
    found = evaluate(predictions(scores, labels), topk=[1], per_class=True, prefix='val', meta={'classes': 'ABCDEFG'})
    wanted = {'val/top1': 100 * hit.mean(), 'val/mean_class': np.mean(list(classes.values()))}
    assert found == pytest.approx(wanted | {f'val/class/{"ABCDEFG"[label]}': x for label, x in classes.items()})
    unnamed = evaluate(predictions(scores, labels), topk=[1], per_class=True)
    assert unnamed['accuracy/class/3'] == found['val/class/D']


def test_result_does_not_depend_on_batches_or_type_of_samples():
    scores, labels = random_samples(3)
    samples = predictions(scores, labels)
    elements = [BaseDataElement(**sample) for sample in samples]
    assert evaluate(samples, batch=40) == evaluate(samples, batch=1) == evaluate(elements)


def test_ties_are_broken_by_class_index():
    labels = torch.arange(6)
    ranks = label_ranks(torch.ones(6, 6), labels)
    assert ranks.tolist() == labels.tolist()
    assert label_ranks(torch.tensor([[0.0, 2.0, 1.0, 2.0]]).repeat(4, 1), torch.arange(4)).tolist() == [3, 0, 2, 1]


def test_infinite_scores_are_ranked():
    assert label_ranks(torch.tensor([[-torch.inf, 0.0, torch.inf]]).repeat(3, 1), torch.arange(3)).tolist() == [2, 1, 0]


def test_k_above_the_number_of_classes_gives_100_and_one_warning():
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    MMLogger.get_current_instance().addHandler(handler)
    try:
        metrics = evaluate(predictions(*random_samples(4, classes=3)))
    finally:
        MMLogger.get_current_instance().removeHandler(handler)
    assert metrics['accuracy/top5'] == 100
    warnings = [record.getMessage() for record in records if record.levelno == logging.WARNING]
    assert sum('topk=(1, 5) of 3 classes' in warning for warning in warnings) == 1


def test_only_integers_are_stored():
    metric = TopKAccuracy()
    metric.process(None, predictions(*random_samples(5)))
    assert all(type(value) is int for result in metric.results for value in result)


@pytest.mark.parametrize(('sample', 'says'), [
    ({'scores': torch.ones(3), 'label': None}, 'has no true label'),
    ({'scores': torch.ones(3)}, 'has no true label'),
    ({'scores': torch.ones(3), 'label': 3}, 'labels from 3 to 3, but scores of the classes 0 to 2'),
    ({'scores': torch.ones(3), 'label': -1}, 'labels from -1'),
    ({'scores': torch.tensor([0.0, torch.nan]), 'label': 0}, 'a score is NaN'),
])
def test_invalid_predictions_raise(sample: dict, says: str):
    with pytest.raises(ValueError, match=says):
        TopKAccuracy().process(None, [sample])


@pytest.mark.parametrize('topk', [(), 5, (0, 1), (1.5,)])
def test_k_that_is_not_a_positive_integer_raises(topk: object):
    with pytest.raises(ValueError, match='expected positive integers'):
        TopKAccuracy(topk)


def test_cross_entropy_equals_torch():
    logits, labels = torch.randn(9, 4), torch.randint(4, (9,))
    evaluator = Evaluator({'type': 'mae_backbone.CrossEntropy'})
    for part in (slice(0, 4), slice(4, 9)):
        evaluator.process(data_samples=[{'scores': score, 'label': int(label)} for score, label in
                                        zip(logits.softmax(1)[part], labels[part], strict=True)])
    assert evaluator.evaluate(9) == {'loss/cross_entropy': pytest.approx(float(F.cross_entropy(logits, labels)))}
    sure_and_wrong = CrossEntropy()
    sure_and_wrong.process(None, [{'scores': torch.tensor([1.0, 0.0]), 'label': 1}])
    assert 80 < sure_and_wrong.results[0] < 100  # and not infinite
    with pytest.raises(ValueError, match='has no true label'):
        CrossEntropy().process(None, [{'scores': torch.ones(3), 'label': None}])
    for label in (-1, 3):
        with pytest.raises(ValueError, match=f'labels from {label} to {label}, but scores of the classes 0 to 2'):
            CrossEntropy().process(None, [{'scores': torch.ones(3), 'label': label}])


def test_evaluation_without_images_raises():
    with pytest.raises(ValueError, match='no image was evaluated'):
        CrossEntropy().evaluate(0)
    with pytest.raises(ValueError, match='no image was evaluated'):
        TopKAccuracy().evaluate(0)


def test_metrics_of_objects_that_a_set_does_not_have_are_no_numbers():
    assert [metric_text(value) for value in (0.68149, 1.0, -1.0)] == ['0.6815', '1', 'no such objects']
