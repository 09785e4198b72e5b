"""A trained model of any task: image -> prediction -> picture."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils.data import Dataset

from mae_backbone.checkpoints.run_files import load_model, read_run
from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.formats.dataset_spec import dataset_specs
from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.instances import Objects
from mae_backbone.prediction.tiles import Tile, predict_tiles, square_grid
from mae_backbone.prediction.tta import use_tta
from mae_backbone.prediction.visualization import draw_labels, draw_objects
from mae_backbone.utils.image_grid import title_bar, to_height
from mae_backbone.utils.palette import palette

# What a detector finds, the labels (H, W) of a segmenter, or the scores (classes,) of a classifier.
Prediction = Objects | np.ndarray


class Predictor:
    """A detector, segmenter or classifier with its weights, ready for images of any size.

    Args:
        cfg: the config that the checkpoint was trained with.
        checkpoint: what tools/train.py wrote.
        threshold: objects with a lower score, in [0, 1], are left out.
        tile: side in pixels of the tiles in which images are looked at; None for images as a whole.
        overlap: share of its side by which neighboring tiles overlap.
        tta: test-time augmentation, as `use_tta` reads it from the config.

    Raises:
        ValueError: a config of a task that predicts nothing, a checkpoint that does not fit, or options that do not go
            together.
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, *, threshold: float = 0.3, tile: int | None = None,
                 overlap: float = 0.2, tta: bool = False) -> None:
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        if tta:
            use_tta(cfg)
        self.threshold, self.tile, self.overlap = threshold, tile, overlap
        self.net = revert_sync_batchnorm(MODELS.build(cfg.model))
        self.task = task_of(self.net)
        if tile is not None:
            _check_tiles(self.task, tile, overlap, tta)
        run = read_run(checkpoint)
        load_model(self.net, run, checkpoint)
        self.net.to(get_device()).eval()
        self.model = MODELS.build({**cfg.tta_model, 'module': self.net}) if tta else self.net
        meta = run['meta'].get('dataset_meta') or {}
        self.classes = _names(cfg, self.net, meta)
        given = meta.get('palette')
        fits = isinstance(given, (list, tuple)) and len(given) == len(self.classes)
        self.colors = [tuple(color) for color in given] if fits else palette(len(self.classes))
        self.prepare = _classifier_input(cfg) if self.task == 'classification' else image_pipeline(cfg)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> Prediction:
        """image (H, W, 3) uint8 RGB -> its objects, labels (H, W) or scores (classes,)."""
        tiles = [Tile(0, 0, *image.shape[:2])]
        if self.tile is not None:
            tiles = square_grid(image.shape[:2], self.tile, self.overlap)
        if len(tiles) == 1:
            return self._whole(image)
        if self.task == 'detection':
            return predict_tiles(image, tiles, self._whole)
        logits = chunked_logits.averaged(tiles, image.shape[1], lambda tile: self._logits(image[tile.slices]))
        threshold = getattr(self.net.decode_head, 'threshold', None)
        return self._to_labels(chunked_logits.labels(logits, threshold=threshold))

    def _whole(self, image: np.ndarray) -> Prediction:
        """A prediction for an image that is looked at at once."""
        result = self.model.test_step(self._data(image))[0]
        if self.task == 'classification':
            return result['scores'].cpu().numpy()
        if self.task == 'segmentation':
            return self._to_labels(result.pred_sem_seg.data[0])
        return Objects.of(result.pred_instances, threshold=self.threshold)

    def _data(self, image: np.ndarray) -> dict[str, list]:
        """image (H, W, 3) -> a batch of one; with test-time augmentation a batch of one for each view."""
        data = self.prepare(image)
        return {key: [value] if self.model is self.net else [[view] for view in value] for key, value in data.items()}

    def _logits(self, image: np.ndarray) -> Tensor:
        """image (H, W, 3) -> logits (C, H, W) of a segmenter."""
        from mmseg.models.segmentors import EncoderDecoder  # our own class may keep no logits
        data = self.net.data_preprocessor(self._data(image), False)
        logits = EncoderDecoder.predict(self.net, data['inputs'], data['data_samples'])[0].seg_logits.data
        return logits.logit() if len(logits) == 1 else logits  # of one logit mmseg gives the sigmoid

    def _to_labels(self, labels: Tensor) -> np.ndarray:
        return labels.cpu().numpy().astype(np.uint8 if len(self.classes) <= 256 else np.uint16)

    def describe(self, result: Prediction) -> str:
        """What was found, in a few words."""
        if self.task == 'classification':
            return f'{self.classes[int(result.argmax())]} {float(result.max()):.0%}'
        if self.task == 'segmentation':
            shares = np.bincount(result.ravel(), minlength=len(self.classes)) / result.size
            return ', '.join(f'{self.classes[i]} {shares[i]:.0%}' for i in np.argsort(-shares)[:5] if shares[i])
        count = np.bincount(result.labels, minlength=len(self.classes))
        return ', '.join(f'{number} {name}' for number, name in zip(count, self.classes, strict=True)
                         if number) or 'nothing'

    def draw(self, image: np.ndarray, result: Prediction) -> np.ndarray:
        """image (H, W, 3) and what was predicted for it -> picture (H', W', 3) uint8 RGB with boxes, masks or names."""
        if self.task == 'classification':
            return _titled(image, self.describe(result))
        if self.task == 'segmentation':
            return draw_labels(image, result, self.colors)
        return draw_objects(image, result, self.classes, self.colors)

    def draw_truth(self, dataset: Dataset, index: int) -> tuple[np.ndarray, np.ndarray]:
        """An image of a data set of this model's task (H, W, 3), and a picture of what its annotation says is there."""
        sample = dataset[index]
        if self.task == 'classification':
            image = sample['inputs'].permute(1, 2, 0).numpy()
            return image, _titled(image, self.classes[sample['data_samples']])
        image = np.ascontiguousarray(sample['inputs'].flip(0).permute(1, 2, 0).numpy())  # mmcv loads BGR
        truth = sample['data_samples']
        if self.task == 'segmentation':
            return image, draw_labels(image, truth.gt_sem_seg.data[0].numpy(), self.colors)
        return image, draw_objects(image, Objects.of(truth.gt_instances), self.classes, self.colors, with_scores=False)


def task_of(model: nn.Module) -> str:
    """Which task a model is for, by the parts that it has.

    Raises:
        ValueError: none.
    """
    if hasattr(model, 'decode_head'):
        return 'segmentation'
    if getattr(model, 'with_bbox', False) or hasattr(model, 'bbox_head') or hasattr(model, 'panoptic_head'):
        return 'detection'
    if getattr(model, 'num_classes', 0):
        return 'classification'
    raise ValueError(f'{type(model).__name__} predicts nothing for an image: pass the config of a detector, a '
                     'segmenter or a classifier; for a pretrained MAE there is tools/visualize.py')


def _check_tiles(task: str, tile: int, overlap: float, tta: bool) -> None:
    square_grid((1, 1), tile, overlap)
    if task == 'classification':
        raise ValueError('--tile is for detectors and segmenters: a classifier looks at images as a whole')
    if task == 'segmentation' and tta:
        raise ValueError('--tile and --tta do not go together for a segmenter: views are merged of whole images; '
                         'leave one of them out')


def _names(cfg: Config, model: nn.Module, meta: dict) -> tuple[str, ...]:
    """Names of the classes: of the checkpoint, else of the data of the config, else numbers, as many as there are."""
    from_data = [spec.class_names for spec in dataset_specs(cfg, 'test')][:1]
    names = meta.get('classes') or (from_data[0] if from_data else None)
    counts = [part.num_classes for part in model.modules() if isinstance(getattr(part, 'num_classes', None), int)]
    return tuple(map(str, names or (f'class {i}' for i in range(max(counts, default=0)))))


def _titled(image: np.ndarray, title: str) -> np.ndarray:
    picture = to_height(image, max(192, image.shape[0]))
    return np.concatenate([title_bar(title, picture.shape[1]), picture])


def _classifier_input(cfg: Config) -> Callable[[np.ndarray], dict]:
    dataset = cfg.test_dataloader.dataset
    transform = evaluation_transform(dataset.get('image_size', 224), dataset.get('augment'))
    return lambda image: {'inputs': transform(image)}


def image_pipeline(cfg: Config) -> Callable[[np.ndarray], dict]:
    """The test pipeline of a config, from an image (H, W, 3) RGB in memory on and without annotations."""
    steps = _without_annotations(dataset_specs(cfg, 'test')[0].cfg.pipeline)
    compose = Compose([{'type': 'LoadImageFromNDArray'}, *steps[1:]])
    return lambda image: compose({'img': np.ascontiguousarray(image[..., ::-1]), 'img_id': 0})  # mmcv loads BGR


def _without_annotations(steps: list) -> list:
    """Takes LoadAnnotations out of a pipeline, and out of the lists of views in it."""
    kept = []
    for step in steps:
        if isinstance(step, (list, tuple)):
            kept += [inner] if (inner := _without_annotations(step)) else []
        elif step['type'].split('.')[-1] == 'TestTimeAug':
            kept.append({**step, 'transforms': _without_annotations(step['transforms'])})
        elif step['type'].split('.')[-1] != 'LoadAnnotations':
            kept.append(step)
    return kept
