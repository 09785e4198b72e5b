"""A trained model of any task: image -> prediction -> picture."""
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, VISUALIZERS, init_default_scope
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch.utils.data import Dataset

from mae_backbone.data.class_folder import evaluation_transform
from mae_backbone.drawing import title_bar, to_height
from mae_backbone.runner import load_whole, read_run


class Predictor:
    """A detector, segmenter or classifier with its weights, ready for images of any size.

    Args:
        cfg: the config that the checkpoint was trained with.
        checkpoint: what tools/train.py wrote.
        threshold: boxes with a lower score, in [0, 1], are neither drawn nor counted.

    Raises:
        ValueError: a config of a task that predicts nothing, or a checkpoint that does not fit.
    """

    def __init__(self, cfg: Config, checkpoint: str | Path, *, threshold: float = 0.3) -> None:
        init_default_scope(cfg.get('default_scope') or 'mmengine')
        self.threshold = threshold
        self.model = revert_sync_batchnorm(MODELS.build(cfg.model))
        run = read_run(checkpoint)
        load_whole(self.model, run, checkpoint)
        self.model.to(get_device()).eval()
        meta = run['meta'].get('dataset_meta') or {}
        self.classes = tuple(meta.get('classes', ()))
        self.task = _task(self.model)
        self.prepare = _classifier_input(cfg) if self.task == 'classification' else _pipeline(cfg)
        if self.task != 'classification':
            # MMEngine keeps visualizers by name.
            self.visualizer = VISUALIZERS.build({**cfg.visualizer, 'vis_backends': None, 'name': uuid.uuid4().hex})
            self.visualizer.dataset_meta = meta

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> object:
        """image (H, W, 3) uint8 RGB -> mmdet's or mmseg's data sample, or dict(scores=(classes,)) of a classifier."""
        data = self.prepare(image)
        return self.model.test_step({key: [value] for key, value in data.items()})[0]

    def describe(self, result: object) -> str:
        """What was found, in a few words."""
        if self.task == 'classification':
            best = int(result['scores'].argmax())
            return f'{self._name(best)} {float(result["scores"][best]):.0%}'
        if self.task == 'segmentation':
            labels, pixels = result.pred_sem_seg.data.unique(return_counts=True)
            largest = sorted(zip((pixels / pixels.sum()).tolist(), labels.tolist(), strict=True), reverse=True)
            return ', '.join(f'{self._name(label)} {share:.0%}' for share, label in largest[:5])
        found = result.pred_instances
        count = torch.bincount(found.labels[found.scores >= self.threshold].cpu())
        return ', '.join(f'{int(n)} {self._name(i)}' for i, n in enumerate(count) if n) or 'nothing'

    def draw(self, image: np.ndarray, result: object) -> np.ndarray:
        """image (H, W, 3) and what was predicted for it -> picture (H', W', 3) uint8 RGB with boxes, masks or names."""
        if self.task == 'classification':
            picture = to_height(image, max(192, image.shape[0]))
            return np.concatenate([title_bar(self.describe(result), picture.shape[1]), picture])
        return self._draw(image, result, 'pred')

    def draw_truth(self, dataset: Dataset, index: int) -> tuple[np.ndarray, np.ndarray]:
        """An image of a data set of this model's task (H, W, 3), and a picture of what its annotation says is there."""
        sample = dataset[index]
        if self.task == 'classification':
            image = sample['inputs'].permute(1, 2, 0).numpy()
            picture = to_height(image, max(192, image.shape[0]))
            return image, np.concatenate([title_bar(self._name(sample['data_samples']), picture.shape[1]), picture])
        image = np.ascontiguousarray(sample['inputs'].flip(0).permute(1, 2, 0).numpy())  # mmcv loads BGR
        return image, self._draw(image, sample['data_samples'], 'gt')

    def _draw(self, image: np.ndarray, sample: BaseDataElement, kind: str) -> np.ndarray:
        """Draws what is predicted ('pred') or annotated ('gt') by the visualizer of the task; small images larger."""
        scale = max(1, 480 // min(image.shape[:2]))
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        options = {'draw_gt': kind == 'gt', 'draw_pred': kind == 'pred', 'show': False}
        if self.task == 'detection':
            options['pred_score_thr'] = self.threshold
            sample = _enlarged_instances(sample, f'{kind}_instances', scale)
        else:
            options['with_labels'] = False
            name = f'{kind}_sem_seg'
            sample = type(sample)(**{name: PixelData(data=_enlarged(getattr(sample, name).data, scale))})
        with warnings.catch_warnings():  # objects at the rim are no news
            warnings.filterwarnings('ignore', message='.*out of bounds', category=UserWarning)
            self.visualizer.add_datasample(kind, image, sample, **options)
        return self.visualizer.get_image()

    def _name(self, label: int) -> str:
        return str(self.classes[label]) if label < len(self.classes) else f'class {label}'


def _enlarged_instances(sample: BaseDataElement, name: str, scale: int) -> BaseDataElement:
    """Boxes and masks of a data sample of mmdet, `scale` times as large, as the arrays that its visualizer wants."""
    found = getattr(sample, name)
    boxes = getattr(found.bboxes, 'tensor', found.bboxes)  # annotations come as a box structure
    larger = InstanceData(bboxes=(boxes * scale).cpu().numpy(), labels=found.labels.cpu().numpy())
    if 'scores' in found:
        larger.scores = found.scores.cpu().numpy()
    if 'masks' in found:
        larger.masks = _enlarged(torch.as_tensor(getattr(found.masks, 'masks', found.masks)), scale).cpu().numpy()
    return type(sample)(**{name: larger})


def _enlarged(maps: torch.Tensor, scale: int) -> torch.Tensor:
    """maps (N, H, W) -> (N, H * scale, W * scale)."""
    return maps.repeat_interleave(scale, dim=1).repeat_interleave(scale, dim=2)


def _task(model: torch.nn.Module) -> str:
    """Which task a model is for, by the parts that it has."""
    if hasattr(model, 'decode_head'):
        return 'segmentation'
    if getattr(model, 'with_bbox', False) or hasattr(model, 'bbox_head'):
        return 'detection'
    if getattr(model, 'num_classes', 0):
        return 'classification'
    raise ValueError(f'{type(model).__name__} predicts nothing for an image: pass the config of a detector, a '
                     'segmenter or a classifier; for a pretrained MAE there is tools/visualize.py')


def _classifier_input(cfg: Config) -> Callable[[np.ndarray], dict]:
    dataset = cfg.test_dataloader.dataset
    transform = evaluation_transform(dataset.get('image_size', 224), dataset.get('augment'))
    return lambda image: {'inputs': transform(image)}


def _pipeline(cfg: Config) -> Callable[[np.ndarray], dict]:
    """The test pipeline of a config, from an image (H, W, 3) RGB in memory on and without annotations."""
    steps = cfg.test_dataloader.dataset.pipeline
    steps = [step for step in steps if step['type'].split('.')[-1] != 'LoadAnnotations']
    compose = Compose([{'type': 'LoadImageFromNDArray'}, *steps[1:]])
    return lambda image: compose({'img': np.ascontiguousarray(image[..., ::-1]), 'img_id': 0})  # mmcv loads BGR
