"""Figures of a report: reconstructions, nearest neighbors, attention, dense features and predictions."""
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mae_backbone.checkpoints.run_files import resume_path
from mae_backbone.data.class_folder import ClassFolder, evaluation_transform
from mae_backbone.data.files import list_images
from mae_backbone.data.reading import is_color, read_pixels, suffixes_of
from mae_backbone.evaluation.knn import nearest, normalize
from mae_backbone.models.backbone import ViTBackbone
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoder_reader import reading_of
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.frozen_encoder import (
    build_frozen,
    build_pretrainer,
    class_attention,
    normalized,
    principal_maps,
)
from mae_backbone.transfer.timm_encoder import probe_size
from mae_backbone.utils.image_grid import labeled, save_picture, side_by_side

NUM_IMAGES, NUM_NEIGHBORS = 4, 5
_THUMBNAIL = 96  # height in pixels of the images in the figure of neighbors
NUM_PATCHES = 24  # number of patches on the shorter side of images of data sets without class folders
_VALIDATION_FOLDERS = ('val', 'val2017', 'images/validation', 'images/val')
_LABEL_FOLDERS = ('annotations', 'segments', 'labels', 'masks')  # their images are label maps

# File name, caption, and the function that draws the figure. It may also return a longer caption.
Figure = tuple[str, str, Callable[[], np.ndarray | tuple[np.ndarray, str]]]


def draw_figures(spec: Spec, folder: Path) -> dict[str, Any]:
    """Draws the figures of `spec` into `folder`. A figure that fails does not stop the others.

    Figures show color images. Encoders of images with bands have none.

    Returns:
        'pictures': caption of each figure by file name; 'faults': a line for each figure that failed.
    """
    figures = _encoder_figures(spec) if spec['of'] == 'encoders' else _prediction_figures(spec)
    captions: dict[str, str] = {}
    faults = [f'{encoder["name"]} has no figures: they show color images with 8 bits' for encoder in spec['encoders']
              if not _is_color(encoder)]
    for name, caption, draw in figures:
        try:
            drawn = draw()
            picture, captions[name] = drawn if isinstance(drawn, tuple) else (drawn, caption)
            save_picture(str(folder / name), picture)
        except Exception as error:
            traceback.print_exc()
            faults.append(f'{caption}: {experiment_dir.error_message(error)}')
    return {'pictures': captions, 'faults': faults}


def _prediction_figures(spec: Spec) -> list[Figure]:
    return [('predictions.png', 'Validation images, their labels, and predictions after training from each encoder. '
             'The images are evenly spaced in the data set and not selected by their results.',
             partial(_compare_predictions, spec))]


def _compare_predictions(spec: Spec) -> np.ndarray:
    from mae_backbone.planning.adapt_config import replace_data_root
    from mae_backbone.planning.bands import use_reader
    from mae_backbone.prediction.comparison import draw_predictions
    models: dict[str, tuple[Config, str | Path]] = {}
    where = spec['where']
    for encoder, config, run in zip(spec['encoders'], where['configs'], where['runs'], strict=True):
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(encoder['options'])
        if encoder.get('reader'):
            replace_data_root(cfg, spec['data_root'])
            use_reader(cfg, encoder['reader'])
        models[encoder['name']] = cfg, str(resume_path('auto', run))
    return draw_predictions(models, data_root=spec['data_root'], images=spec['images'])


def _encoder_figures(spec: Spec) -> list[Figure]:
    encoders = [(encoder, checkpoint) for encoder, checkpoint
                in zip(spec['encoders'], spec['where']['checkpoints'], strict=True) if _is_color(encoder)]
    if not encoders:
        return []
    reader = next((one['architecture']['reader'] for one, _ in encoders if 'reader' in one['architecture']), None)
    images = cache(lambda: validation_images(Path(spec['data_root']), NUM_IMAGES, classes=spec['classes'],
                                             reader=reader))

    def maps(draw: Callable[[ViTClassifier, list[Tensor]], list[np.ndarray]],
             shown: list[tuple[dict[str, Any], str | None]]) -> np.ndarray:
        return _maps(shown, images(), spec, draw)

    def reconstruct(checkpoint: str) -> np.ndarray:
        return reconstructions(checkpoint, images())
    figures: list[Figure] = [
        ('principal.png', 'First three principal components of the patch features, as colors. Colors of different '
                          'encoders cannot be compared.', partial(maps, _principal, encoders))]
    ours = [(encoder, checkpoint) for encoder, checkpoint in encoders if 'timm' not in encoder['architecture']]
    if ours:
        figures.insert(0, ('attention.png', 'Attention of the class token in the last block, averaged over heads.',
                           partial(maps, _attention, ours)))
    for number, (encoder, checkpoint) in enumerate(encoders):
        if checkpoint and 'timm' not in encoder['architecture'] and encoder.get('decoder', True):
            figures.append((f'reconstructions_{number}.png', f'{encoder["name"]}: the image, its visible patches, and '
                            'the reconstruction.', partial(reconstruct, checkpoint)))
        if spec['classes']:
            figures.append((f'neighbors_{number}.png', f'{encoder["name"]}: validation images, and their nearest '
                            'neighbors in the training set.', partial(_neighbors, encoder, checkpoint, spec)))
    return figures


def _is_color(encoder: dict[str, Any]) -> bool:
    return is_color(reading_of(encoder.get('architecture', {}).get('reader')))


def validation_images(root: Path, number: int, *, classes: bool, reader: dict[str, Any] | None = None
                      ) -> list[np.ndarray]:
    """Returns evenly spaced validation images (H, W, 3) uint8.

    Args:
        root: folder of the data set. Without a validation folder, all its images are used.
        number: number of images.
        classes: True for a classification data set: class folders, a list, or shards.
        reader: config of the reader of the images; None for the default.

    Raises:
        ValueError: there are no images.
    """
    if classes:
        dataset = ClassFolder(root, 'val', train=False, reader=reader)
        return [dataset.pixels(i) for i in _evenly_spaced(len(dataset), number)]
    root = next((root / name for name in _VALIDATION_FOLDERS if (root / name).is_dir()), root)
    reading = reading_of(reader)
    files = [path for path in list_images(root, suffixes_of(reading))
             if not set(_LABEL_FOLDERS) & set(path.relative_to(root).parts[:-1])]
    if not files:
        raise ValueError(f'{root} has only label maps and no images: check --data-root')
    return [read_pixels(files[i], reading) for i in _evenly_spaced(len(files), number)]


def _evenly_spaced(length: int, number: int) -> list[int]:
    return np.linspace(0, length - 1, min(number, length)).astype(int).tolist()


def _maps(encoders: Sequence[tuple[dict[str, Any], str | None]], images: Sequence[np.ndarray], spec: Spec,
          draw: Callable[[ViTClassifier, list[Tensor]], list[np.ndarray]]) -> np.ndarray:
    """Draws a row for each image and a column for each encoder."""
    columns = []
    for encoder, checkpoint in encoders:
        model = build_frozen(encoder['architecture'], checkpoint)
        columns.append(draw(model, [_prepare(image, encoder['architecture'], spec) for image in images]))
    titles = ['image', *(encoder['name'] for encoder, _ in encoders)]
    return side_by_side(list(zip(images, *columns, strict=True)), titles)


def _prepare(image: np.ndarray, architecture: dict[str, Any], spec: Spec) -> Tensor:
    """Resizes an image for an encoder: (H, W, 3) -> (3, H', W') uint8.

    Images of class folders get the size of the probes, other images `NUM_PATCHES` patches on the shorter side.
    """
    if spec['classes']:
        return evaluation_transform(probe_size(spec['image_size'], architecture))(image)
    patch = architecture['patch_size']
    scale = NUM_PATCHES * patch / min(image.shape[:2])
    size = [max(1, round(side * scale / patch)) * patch for side in image.shape[1::-1]]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return torch.from_numpy(resized).permute(2, 0, 1)


def _attention(model: ViTClassifier, images: list[Tensor]) -> list[np.ndarray]:
    """Draws attention maps: images (3, H, W) uint8 -> (H, W, 3), bright at patches that the class token attends to."""
    maps = []
    for image in images:
        assert isinstance(model.backbone, ViTBackbone), 'models of timm are left out'
        weights = class_attention(model.backbone, normalized(model, [image]))[0].cpu().numpy()
        weights = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-8)
        colors = cv2.applyColorMap((255 * weights).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        maps.append(_enlarge(colors[..., ::-1], image))
    return maps


def _principal(model: ViTClassifier, images: list[Tensor]) -> list[np.ndarray]:
    """Draws the principal components of the patch features: images (3, H, W) uint8 -> (H, W, 3)."""
    maps = principal_maps(model.backbone, [normalized(model, [image])[0] for image in images])
    return [_enlarge((255 * colors.cpu().numpy()).astype(np.uint8), image)
            for colors, image in zip(maps, images, strict=True)]


def _enlarge(colors: np.ndarray, image: Tensor) -> np.ndarray:
    """colors (h, w, 3) -> (H, W, 3), the size of image (3, H, W), with hard edges between patches."""
    return cv2.resize(colors, (image.shape[2], image.shape[1]), interpolation=cv2.INTER_NEAREST)


def _neighbors(encoder: dict[str, Any], checkpoint: str | None, spec: Spec) -> tuple[np.ndarray, str]:
    """Draws validation images and their nearest neighbors, with their classes. Returns the figure and its caption."""
    from mae_backbone.transfer.probes import class_features
    architecture = encoder['architecture']
    size = probe_size(spec['image_size'], architecture)
    pooling = architecture.get('timm', {}).get('pooling', 'mean')
    model = build_frozen(architecture, checkpoint)
    reader = architecture.get('reader')
    train, val = (class_features(model, spec['data_root'], split, size, spec['where']['features'], pooling=pooling,
                                 reader=reader) for split in ('train', 'val'))
    train_set, val_set = (ClassFolder(spec['data_root'], split, train=False, image_size=size, reader=reader)
                          for split in ('train', 'val'))
    queries = _evenly_spaced(len(val.labels), NUM_IMAGES + 2)
    _, neighbors = nearest(normalize(val.values[queries]), train.values, min(NUM_NEIGHBORS, len(train.labels)))
    neighbors = neighbors.cpu()
    right = train.labels[neighbors] == val.labels[queries][:, None]  # (queries, neighbors)
    rows = [[labeled(_pixels(val_set, query), _class_name(val_set, val.labels[query]), None, height=_THUMBNAIL),
             *(labeled(_pixels(train_set, int(i)), _class_name(train_set, train.labels[int(i)]), bool(same),
                       height=_THUMBNAIL) for i, same in zip(row, marks, strict=True))]
            for query, row, marks in zip(queries, neighbors, right, strict=True)]
    titles = ['image', *(f'neighbor {i}' for i in range(1, neighbors.shape[1] + 1))]
    caption = (f'{encoder["name"]}: validation images, and their nearest neighbors in the training set. '
               f'{int(right.sum())} of {right.numel()} neighbors have the class of the image (tick), the others '
               'another class (cross).')
    return side_by_side(rows, titles, height=rows[0][0].shape[0]), caption


def _class_name(dataset: ClassFolder, label: Tensor) -> str:
    return str(dataset.classes[int(label)])


def _pixels(dataset: ClassFolder, index: int) -> np.ndarray:
    image = dataset[index]['inputs']
    assert isinstance(image, Tensor)
    return image.permute(1, 2, 0).numpy()


def reconstructions(checkpoint: str, images: Sequence[np.ndarray]) -> np.ndarray:
    """Draws each image, its visible patches, and its reconstruction by a MAE.

    Args:
        checkpoint: path of a pretraining checkpoint.
        images: images (H, W, 3) uint8.

    Returns:
        Figure (H', W', 3) uint8.

    Raises:
        CheckpointError: the checkpoint has no decoder, or no config that states its size.
    """
    from mae_backbone.checkpoints.run_files import load_model, read_run
    from mae_backbone.hooks.reconstruction import draw_reconstructions
    model = build_pretrainer(Path(checkpoint))
    load_model(model, read_run(checkpoint), checkpoint)
    encoder = model.mae.encoder
    height, width = (side * encoder.patch_size for side in encoder.grid)
    resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    return draw_reconstructions(model.eval(), [torch.from_numpy(image).permute(2, 0, 1) for image in resized])
