"""Confusion matrices equal those of scikit-learn, and a run writes them."""
import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from sklearn.metrics import confusion_matrix as theirs

from mae_backbone.hooks.confusion import confusion_matrix, draw, summary


def random_pairs(number: int = 200, classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (number, 2))


def test_matrix_equals_scikit_learn():
    pairs = random_pairs()
    assert (confusion_matrix(pairs, num_classes=4) == theirs(*pairs.T)).all()
    assert confusion_matrix(pairs[:0], num_classes=4).shape == (4, 4)


def test_summary_counts_classes_and_pairs():
    matrix = np.array([[3, 1, 0], [0, 0, 0], [5, 2, 1]])
    found = summary(matrix, 'abc', pairs=2)
    assert found['accuracy'] == pytest.approx(100 * 4 / 12)
    assert found['classes'] == {'a': {'images': 4, 'accuracy': 75.0}, 'c': {'images': 8, 'accuracy': 12.5}}
    assert found['mixed_up'] == [{'true': 'c', 'guess': 'a', 'images': 5, 'share_of_true': 62.5},
                                 {'true': 'c', 'guess': 'b', 'images': 2, 'share_of_true': 25.0}]
    assert len(summary(matrix, 'abc')['mixed_up']) == 3
    assert summary(np.zeros((2, 2), int), 'ab') == {'accuracy': 0.0, 'classes': {}, 'mixed_up': []}


@pytest.mark.parametrize('num_classes', [1, 3, 50])
def test_picture_is_dark_at_the_predictions(num_classes: int):
    def darkness(matrix: np.ndarray) -> float:
        picture = cv2.imdecode(np.frombuffer(draw(matrix, [f'class {i}' for i in range(num_classes)]), np.uint8), 0)
        return float((picture < 100).mean())
    assert darkness(np.eye(num_classes, dtype=int)) > darkness(np.zeros((num_classes, num_classes), int))


@pytest.mark.parametrize('name', [r'$\foo$', '$5 to $6', 'gr\udcfcn', 'x' * 200])
def test_any_name_is_drawn(name: str):
    assert draw(np.eye(2, dtype=int), [name, 'b'])


class Identity(BaseModel):
    """Returns its inputs as scores."""

    def forward(self, inputs: list, data_samples: list, mode: str) -> list[dict]:
        return [{'scores': score, 'label': label} for score, label in zip(inputs, data_samples, strict=True)]


class Pairs(torch.utils.data.Dataset):
    metainfo = {'classes': ('cat', 'dog, wild', 'emu')}  # noqa: RUF012

    def __init__(self, pairs: np.ndarray) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        return {'inputs': torch.eye(3)[self.pairs[index, 1]], 'data_samples': int(self.pairs[index, 0])}


@pytest.mark.parametrize('stage', ['val', 'test'])
def test_run_writes_table_picture_and_summary(tmp_path: Path, stage: str):
    pairs = random_pairs(classes=3)
    loader = {'dataset': Pairs(pairs), 'batch_size': 7, 'num_workers': 0,
              'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    runner = Runner(Identity(), str(tmp_path), custom_hooks=[{'type': 'mae_backbone.ConfusionHook'}],
                    experiment_name=f'confusion-{stage}', **{
                        f'{stage}_dataloader': loader, f'{stage}_cfg': {},
                        f'{stage}_evaluator': [{'type': 'mae_backbone.TopKAccuracy', 'topk': [1]}]})
    metrics = [getattr(runner, stage)() for _ in range(2)][-1]  # the second one starts from zero
    table = list(csv.reader((tmp_path / f'confusion_{stage}.csv').read_text().splitlines()))
    assert table[0] == ['true / predicted', 'cat', 'dog, wild', 'emu']
    assert [[int(cell) for cell in row[1:]] for row in table[1:]] == confusion_matrix(pairs, num_classes=3).tolist()
    written = json.loads((tmp_path / f'classes_{stage}.json').read_text())
    assert written['accuracy'] == pytest.approx(metrics['accuracy/top1'])
    assert list(written['classes']) == ['cat', 'dog, wild', 'emu']
    assert cv2.imread(str(tmp_path / f'confusion_{stage}.png')) is not None
