"""Predictions of several trained models on the same validation images, side by side."""
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from mae_backbone.data.shown_bands import to_shown
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root
from mae_backbone.prediction.building import default_scope
from mae_backbone.prediction.predictor import Predictor
from mae_backbone.utils.image_grid import add_legend, side_by_side


def draw_predictions(models: Mapping[str, tuple[Config, str | Path]], *, data_root: str | Path,
                     images: int = 5) -> np.ndarray:
    """Draws validation images in rows: the image, its annotation, and the prediction of each model.

    Args:
        models: config of a training and its checkpoint, by the title of the column. The configs are changed in place
            and adapted to the data.
        data_root: folder of the validation images.
        images: number of rows, evenly spaced in the validation set.

    Returns:
        Figure (H, W, 3) uint8 RGB.

    Raises:
        ValueError: the validation set is empty, or a checkpoint does not fit its config.
    """
    for cfg, _ in models.values():
        replace_data_root(cfg, str(data_root))
        adapt_classes(cfg)
    predictors = [Predictor(*model) for model in models.values()]
    first, _ = next(iter(models.values()))
    with default_scope(first.get('default_scope')):
        dataset = DATASETS.build(first.test_dataloader.dataset)
    if not len(dataset):
        raise ValueError(f'{data_root} has no validation images to draw: check the folders that the head of the config '
                         'names')
    rows = []
    for index in np.linspace(0, len(dataset) - 1, min(images, len(dataset))).astype(int):
        image, truth = predictors[0].draw_truth(dataset, int(index))
        rows.append([to_shown(image), truth, *(predictor.draw(image, predictor(image), legend='none')
                                     for predictor in predictors)])
    figure = side_by_side(rows, ['image', 'truth', *models])
    shown = predictors[0]
    return add_legend(figure, shown.classes, shown.colors) if shown.task == 'segmentation' else figure
