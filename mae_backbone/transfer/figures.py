"""Draws what a report shows: reconstructions, neighbors, attention, dense features, predictions."""
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from mae_backbone.data.class_folder import ClassFolder, evaluation_transform
from mae_backbone.data.decode import read_image
from mae_backbone.data.files import list_images
from mae_backbone.evaluation.knn import nearest, normalize
from mae_backbone.models.classifier import ViTClassifier
from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.frozen_encoder import (
    build_frozen,
    build_pretrainer,
    class_attention,
    normalized,
    principal_maps,
)
from mae_backbone.utils.image_grid import save_picture, side_by_side

IMAGES, NEIGHBORS = 4, 5
PATCHES = 24  # on the shorter side of images that are not of classes
_VALIDATION = ('val', 'val2017', 'images/validation', 'images/val')
_LABELS = ('annotations', 'segments', 'labels', 'masks')  # folders whose images are no photographs


def draw_pictures(spec: dict, folder: Path) -> dict:
    """Writes the pictures that `spec` wants into `folder`; returns their captions by name, and their faults.

    A picture that cannot be drawn leaves the others alone, whatever it fails by.
    """
    draw = _encoders if spec['of'] == 'encoders' else _predictions
    pictures, faults = {}, []
    for name, words, picture in draw(spec):
        try:
            save_picture(str(folder / name), picture())
            pictures[name] = words
        except Exception as error:
            traceback.print_exc()
            faults.append(f'{words}: {experiment_dir.reason_of(error)}')
    return {'pictures': pictures, 'faults': faults}


Drawing = tuple[str, str, Callable[[], np.ndarray]]  # name of the file, caption, what draws it


def _predictions(spec: dict) -> list[Drawing]:
    return [('predictions.png', 'Validation images, what is there, and what the trainings from each encoder find.',
             lambda: _compared(spec))]


def _compared(spec: dict) -> np.ndarray:
    from mae_backbone.prediction.comparison import draw_predictions
    models = {}
    for encoder, run in zip(spec['encoders'], spec['where']['runs'], strict=True):
        cfg = Config.fromfile(Path(spec['where']['root'], 'configs', encoder['config']))
        cfg.merge_from_dict(encoder['options'])
        models[encoder['name']] = cfg, Path(run, 'last_checkpoint').read_text(encoding='utf-8').strip()
    return draw_predictions(models, data_root=spec['data_root'], images=spec['images'])


def _encoders(spec: dict) -> list[Drawing]:
    encoders = list(zip(spec['encoders'], spec['where']['checkpoints'], strict=True))
    images = cache(lambda: photographs(Path(spec['data_root']), IMAGES, classes=spec['classes']))
    drawings = [('attention.png', 'Where the class token looks in the last block, mean of the heads.',
                 lambda: _maps(encoders, images(), spec, _attention)),
                ('principal.png', 'The three main directions of the features of patches, as colors; what they stand '
                                  'for is another for each encoder.',
                 lambda: _maps(encoders, images(), spec, _principal))]
    for number, (encoder, checkpoint) in enumerate(encoders):
        if checkpoint:
            drawings.append((f'reconstructions_{number}.png',
                             f'{encoder["name"]}: the image, what the encoder saw, what the decoder made of it.',
                             lambda checkpoint=checkpoint: reconstructions(checkpoint, images())))
        if spec['classes']:
            drawings.append((f'neighbors_{number}.png', f'{encoder["name"]}: validation images, and their nearest '
                             'neighbors in the training set.',
                             lambda encoder=encoder, checkpoint=checkpoint: _neighbors(encoder, checkpoint, spec)))
    return drawings


def photographs(root: Path, number: int, *, classes: bool) -> list[np.ndarray]:
    """Validation images (H, W, 3) uint8, evenly drawn: of folders, a list or shards where they are of classes.

    Otherwise of a data set of any layout; of all its images where no folder is for validation.

    Raises:
        ValueError: there are none.
    """
    if classes:
        images = ClassFolder(root, 'val', train=False)
        return [images.pixels(i) for i in _evenly(len(images), number)]
    root = next((root / name for name in _VALIDATION if (root / name).is_dir()), root)
    files = [path for path in list_images(root) if not set(_LABELS) & set(path.relative_to(root).parts[:-1])]
    if not files:
        raise ValueError(f'{root} has no images but label maps')
    return [read_image(files[i]) for i in _evenly(len(files), number)]


def _evenly(length: int, number: int) -> list[int]:
    return np.linspace(0, length - 1, min(number, length)).astype(int).tolist()


def _maps(encoders: Sequence[tuple[dict, str | None]], images: Sequence[np.ndarray], spec: dict,
          draw: Callable[[ViTClassifier, list[Tensor]], list[np.ndarray]]) -> np.ndarray:
    """A row for each image, a column for each encoder."""
    columns = []
    for encoder, checkpoint in encoders:
        model = build_frozen(encoder['architecture'], checkpoint)
        prepared = [_prepare(image, encoder['architecture'], spec) for image in images]
        columns.append(draw(model, prepared))
    titles = ['image', *(encoder['name'] for encoder, _ in encoders)]
    return side_by_side(list(zip(images, *columns, strict=True)), titles)


def _prepare(image: np.ndarray, architecture: dict, spec: dict) -> Tensor:
    """image (H, W, 3) -> (3, H', W') uint8: as for its features, or with `PATCHES` patches on the shorter side."""
    if spec['classes']:
        return evaluation_transform(spec['image_size'] or architecture['image_size'])(image)
    patch = architecture['patch_size']
    scale = PATCHES * patch / min(image.shape[:2])
    size = [max(1, round(side * scale / patch)) * patch for side in image.shape[1::-1]]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return torch.from_numpy(resized).permute(2, 0, 1)


def _attention(model: ViTClassifier, images: list[Tensor]) -> list[np.ndarray]:
    """Images (3, H, W) uint8 -> pictures (H, W, 3): bright where the class token looks."""
    pictures = []
    for image in images:
        weights = class_attention(model.backbone, normalized(model, [image]))[0].cpu().numpy()
        weights = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-8)
        colors = cv2.applyColorMap((255 * weights).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        pictures.append(_enlarge(colors[..., ::-1], image))
    return pictures


def _principal(model: ViTClassifier, images: list[Tensor]) -> list[np.ndarray]:
    """Images (3, H, W) uint8 -> pictures (H, W, 3) of their dense features."""
    maps = principal_maps(model.backbone, [normalized(model, [image])[0] for image in images])
    return [_enlarge((255 * colors.cpu().numpy()).astype(np.uint8), image)
            for colors, image in zip(maps, images, strict=True)]


def _enlarge(picture: np.ndarray, image: Tensor) -> np.ndarray:
    """picture (h, w, 3) -> (H, W, 3) of the image (3, H, W), with the edges of its patches."""
    return cv2.resize(picture, (image.shape[2], image.shape[1]), interpolation=cv2.INTER_NEAREST)


def _neighbors(encoder: dict, checkpoint: str | None, spec: dict) -> np.ndarray:
    from mae_backbone.transfer.probes import class_features
    architecture, size = encoder['architecture'], spec['image_size'] or encoder['architecture']['image_size']
    model = build_frozen(architecture, checkpoint)
    train, test = (class_features(model, spec['data_root'], split, size, spec['where']['features'])
                   for split in ('train', 'val'))
    sets = [ClassFolder(spec['data_root'], split, train=False, image_size=size) for split in ('train', 'val')]
    chosen = _evenly(len(test.labels), IMAGES + 2)
    queries = normalize(test.values[chosen])
    _, found = nearest(queries, train.values, min(NEIGHBORS, len(train.labels)))
    rows = [[_pixels(sets[1], query), *(_pixels(sets[0], int(i)) for i in near)]
            for query, near in zip(chosen, found, strict=True)]
    return side_by_side(rows, ['image', *(f'neighbor {i}' for i in range(1, found.shape[1] + 1))], height=96)


def _pixels(dataset: ClassFolder, index: int) -> np.ndarray:
    return dataset[index]['inputs'].permute(1, 2, 0).numpy()


def reconstructions(checkpoint: str, images: Sequence[np.ndarray]) -> np.ndarray:
    """Images (H, W, 3) uint8 -> original, masked and reconstructed ones, by a checkpoint of tools/pretrain.py.

    Raises:
        CheckpointError: it holds no decoder, or does not say how it was built.
    """
    from mae_backbone.checkpoints.run_files import load_model, read_run
    from mae_backbone.hooks.reconstruction import draw_reconstructions
    model = build_pretrainer(Path(checkpoint))
    load_model(model, read_run(checkpoint), checkpoint)
    encoder = model.mae.encoder
    height, width = (side * encoder.patch_size for side in encoder.grid)
    resized = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    return draw_reconstructions(model.eval(), [torch.from_numpy(image).permute(2, 0, 1) for image in resized])
