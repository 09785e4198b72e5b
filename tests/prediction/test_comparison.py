"""Predictions side by side: image, truth once, and a column for each model."""
import numpy as np
import pytest
from mmengine.config import Config

from mae_backbone.prediction import comparison


class Model:
    """Predicts a color of its own for every image."""

    task = 'detection'

    def __init__(self, cfg: Config, checkpoint: str) -> None:
        assert cfg.data_root == 'data'
        self.color = {'a.pth': 50, 'b.pth': 100}[checkpoint]

    def __call__(self, image: np.ndarray) -> int:
        return self.color + int(image[0, 0, 0])

    def draw(self, image: np.ndarray, prediction: int, *, legend: str) -> np.ndarray:
        assert legend == 'none'
        return np.full_like(image, prediction)

    def draw_truth(self, dataset: range, index: int) -> tuple[np.ndarray, np.ndarray]:
        return np.full((192, 192, 3), dataset[index], np.uint8), np.full((192, 192, 3), 200, np.uint8)


@pytest.fixture
def draw(monkeypatch):
    def run(count: int, **options) -> np.ndarray:
        monkeypatch.setattr(comparison, 'Predictor', Model)
        monkeypatch.setattr(comparison, 'adapt_classes', lambda cfg: [])
        monkeypatch.setattr(comparison.DATASETS, 'build', lambda cfg: range(count))
        models = {name: (Config(dict(data_root='elsewhere', test_dataloader=dict(dataset=dict(data_root='elsewhere')))),
                         checkpoint) for name, checkpoint in (('one', 'a.pth'), ('two', 'b.pth'))}
        return comparison.draw_predictions(models, data_root='data', **options)
    return run


def test_models_have_columns_and_images_are_evenly_spaced(draw):
    figure = draw(11, images=3)
    rows, columns = 24 + 196 * np.arange(3) + 90, 196 * np.arange(4) + 90
    assert figure[rows][:, columns, 0].tolist() == [[0, 200, 50, 100], [5, 200, 55, 105], [10, 200, 60, 110]]


def test_small_set_is_shown_completely(draw):
    assert draw(2).shape[0] == 24 + 2 * 196
    with pytest.raises(ValueError, match='no validation images'):
        draw(0)
