"""What several trained models make of the same validation images."""
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.utils.image_grid import side_by_side


def draw_predictions(models: Mapping[str, tuple[Config, str | Path]], *, data_root: str | Path,
                     images: int = 5) -> np.ndarray:
    """Validation images, evenly drawn: the image, what is there, and what each model finds -> picture (H, W, 3) uint8.

    Args:
        models: by the title of its column the config of each training, which is fitted to the data, and its checkpoint.
        data_root: of the validation images.
        images: how many, a row each.

    Raises:
        ValueError: the validation set is empty, or a checkpoint does not fit.
    """
    for cfg, _ in models.values():
        replace_data_root(cfg, str(data_root))
        adapt_classes(cfg)
    predictors = [Predictor(*model) for model in models.values()]
    first, _ = next(iter(models.values()))
    dataset = DATASETS.build(first.test_dataloader.dataset)
    if not len(dataset):
        raise ValueError(f'{data_root} has no validation images to draw')
    rows = []
    for index in np.linspace(0, len(dataset) - 1, min(images, len(dataset))).astype(int):
        image, truth = predictors[0].draw_truth(dataset, int(index))
        rows.append([image, truth, *(predict.draw(image, predict(image)) for predict in predictors)])
    return side_by_side(rows, ['image', 'truth', *models])
