"""Predictor: a detector, segmenter or classifier that predicts images and draws the predictions."""
import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.utils.data import Dataset

from mae_backbone.checkpoints.published import KEY as DESCRIPTION
from mae_backbone.checkpoints.run_files import load_model, read_run
from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.data.decode import DEFAULT, Decoding
from mae_backbone.data.load_image import pipeline_input
from mae_backbone.data.reading import Reading, reading_in, shown
from mae_backbone.engine.provenance import task_name
from mae_backbone.formats.dataset_spec import dataset_specs
from mae_backbone.formats.messages import first_few
from mae_backbone.prediction import chunked_logits
from mae_backbone.prediction.base import BasePredictor, Prediction, check_threshold, labels_array
from mae_backbone.prediction.building import build_model, default_scope
from mae_backbone.prediction.finite_outputs import check_finite, check_outputs
from mae_backbone.prediction.instances import Instances
from mae_backbone.prediction.tiles import Tile, predict_tiles, square_grid
from mae_backbone.prediction.tta import use_tta
from mae_backbone.prediction.visualization import add_title, draw_instances, draw_labels
from mae_backbone.utils.devices import select_device
from mae_backbone.utils.palette import class_colors

# Dtypes of the computation. The weights stay float32, and torch.autocast selects the operations in the other dtypes.
DTYPES = ('float32', 'bfloat16', 'float16')


class Predictor(BasePredictor):
    """Detector, segmenter or classifier with its weights, for images of any size.

    Several threads may use a predictor at once.

    Args:
        cfg: config of the training. It is not changed.
        checkpoint: file that `mae-backbone train` wrote.
        threshold: instances with a lower score are removed, in [0, 1].
        tile: height and width of the tiles in pixels; None predicts whole images.
        overlap: overlap between neighboring tiles, as a fraction of the tile.
        tta: use test-time augmentation with the settings of the config (`use_tta`).
        device: device of the model, such as 'cpu' or 'cuda:0'; None selects a GPU if there is one.
        dtype: dtype of the computation, one of `DTYPES`.
        run: content of the checkpoint from `read_run`, if it is already read.

    Attributes:
        task: 'detection', 'segmentation' or 'classification'.
        classes: names of the classes.
        colors: (red, green, blue) of each class.
        class_ids: id of each class in the training annotations if the checkpoint states it, otherwise the label.
        decoding: decoding of the training images. Decode your images in the same way.

    Raises:
        ValueError: the model of the config has no predictions, the checkpoint does not fit it, or options contradict
            each other.
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, *, threshold: float = 0.3, tile: int | None = None,
                 overlap: float = 0.2, tta: bool = False, device: str | torch.device | None = None,
                 dtype: str = 'float32', run: dict | None = None) -> None:
        if dtype not in DTYPES:
            raise ValueError(f'dtype={dtype!r}, expected one of {", ".join(DTYPES)}')
        self.cfg, self.dtype = cfg, dtype
        self.device = select_device(device)
        run = read_run(checkpoint) if run is None else run
        self.net: Any = build_model(cfg, run['state_dict'])
        self.task = task_of(self.net)
        load_model(self.net, run, checkpoint)
        self.net.to(self.device).eval()
        if dtype != 'float32':
            check_outputs(self.net, dtype)
        with default_scope(cfg.get('default_scope')):
            self.decoding = reading_in(cfg.get('test_dataloader') or cfg.get('train_dataloader') or {})
            meta = run['meta'].get('dataset_meta') or {}
            self.classes = _class_names(cfg, self.net, meta)
        self.colors = class_colors(len(self.classes), meta.get('palette'))
        self.class_ids = _class_ids(run['meta'], self.classes)
        self._set_options(threshold=threshold, tile=tile, overlap=overlap, tta=tta)

    def _set_options(self, *, threshold: float, tile: int | None, overlap: float, tta: bool) -> None:
        check_threshold(threshold)
        if tile is not None:
            _check_tiles(self.task, tile, overlap, tta)
        self.threshold, self.tile, self.overlap, self.tta = threshold, tile, overlap, tta
        cfg = self.cfg
        with default_scope(cfg.get('default_scope')):
            if tta:
                cfg = copy.deepcopy(cfg)
                use_tta(cfg)
            self.model = MODELS.build({**cfg.tta_model, 'module': self.net}) if tta else self.net
            classifies = self.task == 'classification'
            self.prepare = _classifier_input(cfg, self.decoding) if classifies else image_pipeline(cfg, self.decoding)

    def with_options(self, *, threshold: float = 0.3, tile: int | None = None, overlap: float = 0.2,
                     tta: bool = False) -> 'Predictor':
        """Returns a predictor with the same model and other options.

        Raises:
            ValueError: an option is out of range, or options contradict each other.
        """
        other = copy.copy(self)
        other._set_options(threshold=threshold, tile=tile, overlap=overlap, tta=tta)
        return other

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """images (H, W, 3) uint8 RGB of any sizes -> a prediction for each image.

        Images with the same size after the test pipeline are computed together. Other images, tiles, and views of
        test-time augmentation are computed one after another, because padding to a common size would change
        predictions.
        """
        with self._autocast():
            if self.tile is not None or self.model is not self.net:
                return [self._predict_tiled(image) for image in images]
            prepared = [self.prepare(image) for image in images]
            predictions: list[Prediction | None] = [None] * len(images)
            groups: dict[tuple[int, ...], list[int]] = {}
            for index, data in enumerate(prepared):
                groups.setdefault(tuple(data['inputs'].shape), []).append(index)
            for indices in groups.values():
                batch = {key: [prepared[i][key] for i in indices] for key in prepared[indices[0]]}
                for index, output in zip(indices, self.net.test_step(batch), strict=True):
                    predictions[index] = self._to_prediction(output)
        return [prediction for prediction in predictions if prediction is not None]

    @torch.inference_mode()
    def labels_and_confidence(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Predicts the labels of a segmenter and their probabilities.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Labels (H, W), and their probabilities (H, W) float32. The probabilities are None if the logits of all
            classes would take more than `chunked_logits.DEVICE_BYTES`, or if the head predicts masks of queries, whose
            scores are not logits.
        """
        height, width = image.shape[:2]
        head = self.net.decode_head
        if 4 * len(self.classes) * height * width > chunked_logits.DEVICE_BYTES or hasattr(head, 'num_queries'):
            prediction = self(image)
            assert isinstance(prediction, np.ndarray)
            return prediction, None
        with self._autocast():
            logits = self._logits(image).float()
        labels, confidence = chunked_logits.predict_confidence(
            chunked_logits.split_rows(logits), threshold=getattr(head, 'threshold', None))
        return self._to_labels(labels), confidence.numpy()

    def _predict_tiled(self, image: np.ndarray) -> Prediction:
        tiles = [Tile(0, 0, *image.shape[:2])]
        if self.tile is not None:
            tiles = square_grid(image.shape[:2], self.tile, self.overlap)
        if len(tiles) == 1:
            return self._predict(image)
        if self.task == 'detection':
            return predict_tiles(image, tiles, self._instances)
        logits = chunked_logits.average_tiles(tiles, image.shape[1], lambda tile: self._logits(image[tile.slices]))
        threshold = getattr(self.net.decode_head, 'threshold', None)
        return self._to_labels(chunked_logits.predict_labels(logits, threshold=threshold))

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, getattr(torch, self.dtype), enabled=self.dtype != 'float32')

    def _predict(self, image: np.ndarray) -> Prediction:
        """Predicts for an image (H, W, 3) that is not cut into tiles."""
        return self._to_prediction(self.model.test_step(self._batch(image))[0])

    def _to_prediction(self, output: Any) -> Prediction:
        """Converts the output of a model for one image to a prediction."""
        if self.task == 'classification':
            check_finite(self.net, self.dtype, output['scores'])  # the forward hooks do not see all of its features
            return output['scores'].cpu().numpy()
        if self.task == 'segmentation':
            return self._to_labels(output.pred_sem_seg.data[0])
        return Instances.from_data(output.pred_instances, threshold=self.threshold)

    def _instances(self, image: np.ndarray) -> Instances:
        prediction = self._predict(image)
        assert isinstance(prediction, Instances)
        return prediction

    def _batch(self, image: np.ndarray) -> dict[str, list]:
        """Image (H, W, 3) -> a batch with one image; with test-time augmentation, a batch with one image per view."""
        data = self.prepare(image)
        return {key: [value] if self.model is self.net else [[view] for view in value] for key, value in data.items()}

    def _logits(self, image: np.ndarray) -> Tensor:
        """image (H, W, 3) -> logits (C, H, W) of a segmenter."""
        from mmseg.models.segmentors import EncoderDecoder  # our subclass does not always return logits
        data = self.net.data_preprocessor(self._batch(image), False)
        logits = EncoderDecoder.predict(self.net, data['inputs'], data['data_samples'])[0].seg_logits.data
        return logits.logit() if len(logits) == 1 else logits  # for a single logit mmseg returns the sigmoid

    def _to_labels(self, labels: Tensor) -> np.ndarray:
        return labels_array(labels.cpu().numpy(), len(self.classes))

    def draw_truth(self, dataset: Dataset, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image (H, W, 3) of a data set for the task of this model, and a figure of its annotation."""
        sample = dataset[index]
        if self.task == 'classification':
            image = sample['inputs'].permute(1, 2, 0).numpy()
            return image, add_title(shown(image, self.decoding), self.classes[sample['data_samples']])
        is_bgr = isinstance(self.decoding, Decoding) or self.decoding.is_color  # mmcv loads BGR
        pixels = sample['inputs'].flip(0) if is_bgr else sample['inputs']
        image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
        background, truth = shown(image, self.decoding), sample['data_samples']
        if self.task == 'segmentation':
            return image, draw_labels(background, truth.gt_sem_seg.data[0].numpy(), self.colors)
        instances = Instances.from_data(truth.gt_instances)
        return image, draw_instances(background, instances, self.classes, self.colors, with_scores=False)


def task_of(model: nn.Module) -> str:
    """Returns the task of a model, determined from its modules: 'detection', 'segmentation' or 'classification'.

    Raises:
        ValueError: the model is for another task.
    """
    task = task_name(model)
    if task not in (None, 'pretraining'):
        return str(task)
    raise ValueError(f'{type(model).__name__} predicts nothing for an image: pass the config of a detector, a '
                     'segmenter or a classifier; for a pretrained MAE use `mae-backbone visualize`')


def _check_tiles(task: str, tile: int, overlap: float, tta: bool) -> None:
    square_grid((1, 1), tile, overlap)
    if task == 'classification':
        raise ValueError('--tile is for detectors and segmenters, and a classifier needs the whole image: remove it')
    if task == 'segmentation' and tta:
        raise ValueError('--tile and --tta cannot be combined for a segmenter, because its views are merged for whole '
                         'images: remove one of them')


def _class_names(cfg: Config, model: nn.Module, meta: dict) -> tuple[str, ...]:
    """Returns the class names in the checkpoint; if it has none, in the config; otherwise 'class 0', 'class 1', ..."""
    names = meta.get('classes') or next((spec.class_names for spec in dataset_specs(cfg, 'test')), None)
    names = [names] if isinstance(names, str) else names
    counts = [count for path, module in model.named_modules()
              if isinstance(count := getattr(module, 'num_classes', None), int) and 'rpn_head' not in path]
    if names and counts and len(names) not in counts:
        raise ValueError(f'the checkpoint or the data have {len(names)} classes ({first_few(names)}), the model has '
                         f'{max(counts)}: pass the config that the checkpoint was trained with')
    return tuple(map(str, names or (f'class {i}' for i in range(max(counts, default=0)))))


def _class_ids(meta: dict, classes: Sequence[str]) -> list[int | str]:
    """Returns the ids that the checkpoint has for these class names; 0, 1, ... if it has none."""
    described = meta.get(DESCRIPTION)
    stated = described.get('classes') if isinstance(described, dict) else None
    entries = [one for one in stated if isinstance(one, dict)] if isinstance(stated, (list, tuple)) else []
    ids = [one.get('id') for one in entries]
    if [one.get('name') for one in entries] == list(classes) and all(isinstance(id_, (int, str)) for id_ in ids):
        return ids  # type: ignore[return-value]  # checked
    return list(range(len(classes)))


def _classifier_input(cfg: Config, reading: Reading) -> Callable[[np.ndarray], dict]:
    dataset = cfg.test_dataloader.dataset
    transform = evaluation_transform(dataset.get('image_size', 224), dataset.get('augment'), reading)
    return lambda image: {'inputs': transform(image)}


def image_pipeline(cfg: Config, reading: Reading = DEFAULT) -> Callable[[np.ndarray], dict]:
    """Returns the test pipeline of a config as a function of a decoded image (H, W, C), without annotations."""
    steps = _without_annotations(dataset_specs(cfg, 'test')[0].cfg.pipeline)
    compose = Compose([{'type': 'LoadImageFromNDArray'}, *steps[1:]])
    return lambda image: compose({'img': pipeline_input(image, reading), 'img_id': 0})


def _without_annotations(steps: list | tuple) -> list:
    """Removes LoadAnnotations from a pipeline, and from the lists of views inside it."""
    kept: list = []
    for step in steps:
        if isinstance(step, (list, tuple)):
            kept += [inner] if (inner := _without_annotations(step)) else []
        elif step['type'].split('.')[-1] == 'TestTimeAug':
            kept.append({**step, 'transforms': _without_annotations(step['transforms'])})
        elif step['type'].split('.')[-1] != 'LoadAnnotations':
            kept.append(step)
    return kept
