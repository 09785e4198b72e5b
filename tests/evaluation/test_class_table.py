"""Tables of classes: nothing is lost on the way to the file, and the log shows the classes that need attention."""
import csv

import numpy as np
import torch

from mae_backbone.evaluation.class_table import MAX_ROWS, merged, to_csv, to_text
from mae_backbone.evaluation.metrics import TopKAccuracy


def test_file_has_all_numbers():
    table = merged({'cat': {'objects': 3, 'AP': 50.0}, 'dog, wild': {'objects': 0, 'AP': float('nan')}},
                   {'cat': {'AP50': 75.123456}})
    rows = list(csv.reader(to_csv(table).splitlines()))
    assert rows == [['class', 'objects', 'AP', 'AP50'], ['cat', '3', '50.0', '75.1235'], ['dog, wild', '0', '', '']]
    assert to_text(table).splitlines() == ['class      objects    AP  AP50', 'cat              3  50.0  75.1',
                                           'dog, wild        0     -     -']


def test_log_of_many_classes_has_the_worst():
    text = to_text({f'class {i}': {'top1': float((7 * i) % 101)} for i in range(101)})
    assert len(text.splitlines()) == MAX_ROWS + 2
    assert '  100.0' not in text
    assert text.endswith(f'the {MAX_ROWS} of 101 classes with the lowest top1')


def test_accuracy_of_each_class_is_the_one_of_its_images():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 50), torch.from_numpy(rng.random((50, 4)))
    metric = TopKAccuracy(topk=(1,))
    metric.dataset_meta = {'classes': ('a', 'b', 'c', 'd')}
    metric.process(None, [dict(scores=score, label=int(label)) for score, label in zip(scores, labels, strict=True)])
    metrics = metric.compute_metrics(metric.results)
    right = scores.argmax(1).numpy() == labels
    assert metric.class_table == {name: {'images': int((labels == i).sum()), 'top1': 100 * right[labels == i].mean()}
                                  for i, name in enumerate('abc')}
    assert metrics == {'top1': 100 * right.mean()}
