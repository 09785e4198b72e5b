"""Hook that draws labels and predictions of validation images during a training."""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from pycocotools import mask as coco_rle

from mae_backbone.data.reading import shown
from mae_backbone.data.shown_bands import to_shown
from mae_backbone.prediction.instances import CroppedRLE, Instances
from mae_backbone.prediction.visualization import add_title, draw_instances, draw_labels, present_classes
from mae_backbone.registry import HOOKS
from mae_backbone.utils.image_grid import add_legend, save_picture, side_by_side
from mae_backbone.utils.palette import class_colors

FOLDER = 'validation'  # folder in the work directory
_HEIGHT = 320          # our choice: height in pixels of an image in the figure
_MAX_HEIGHT = 2000     # our choice: larger images are reduced to about this height before labels are drawn


@HOOKS.register_module()
class ValidationPicturesHook(Hook):
    """Writes a figure with truth and prediction of a few validation images to `validation/` of the work directory.

    The images are the same in each validation. A figure has a row for each image, with the truth on the left and the
    prediction on the right: boxes and masks, label maps with a legend, or class names. Images and annotations are read
    from the data set, because the pipeline may resize them.

    Args:
        images: number of random images of the validation set.
        seed: random seed of their selection.
        threshold: objects with a lower score are not drawn, in [0, 1]. The default is as in `mae-backbone predict`.

    Raises:
        ValueError: an argument is out of range.
    """

    priority = 'LOW'

    def __init__(self, *, images: int = 6, seed: int = 0, threshold: float = 0.3) -> None:
        if images < 1 or not 0 <= threshold <= 1:
            raise ValueError(f'images={images} and threshold={threshold}, expected 1 or more and a score in [0, 1]')
        self.images, self.seed, self.threshold = images, seed, threshold
        self.chosen: set[int] = set()
        self.rows: dict[int, list[np.ndarray]] = {}
        self.present: set[int] = set()  # classes in the label maps

    def before_val_epoch(self, runner: Runner) -> None:
        """Selects the images."""
        number = len(runner.val_dataloader.dataset)
        order = np.random.default_rng(self.seed).permutation(number)
        self.chosen, self.rows, self.present = set(order[:self.images].tolist()), {}, set()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: object = None,
                       outputs: Sequence | None = None) -> None:
        """Draws the selected images of a batch."""
        loader = runner.val_dataloader
        # MMEngine's DefaultSampler distributes the images to the processes in turn.
        first = batch_idx * (loader.batch_size or 1)
        for position, output in enumerate(outputs or (), first):
            index = position * get_world_size() + get_rank()
            if index in self.chosen:
                row = self._row(loader.dataset, index, output)
                self.rows |= {} if row is None else {index: row}

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Writes the figure."""
        parts = all_gather_object((self.rows, self.present))
        if not is_main_process():
            return
        rows: dict[int, list[np.ndarray]] = {}
        present: set[int] = set()
        for own_rows, own_present in parts:
            rows |= own_rows
            present |= own_present
        if not rows:
            return
        picture = side_by_side([rows[index] for index in sorted(rows)], ['truth', 'prediction'], height=_HEIGHT)
        names, colors = _classes(runner.val_dataloader.dataset)
        picture = add_legend(picture, [names[i] for i in sorted(present)], [colors[i] for i in sorted(present)])
        folder = Path(runner.work_dir, FOLDER)
        folder.mkdir(exist_ok=True)
        by_epoch = runner.log_processor.by_epoch
        name = f'epoch_{runner.epoch}.jpg' if by_epoch else f'iter_{runner.iter}.jpg'
        save_picture(str(folder / name), picture)
        runner.logger.info(f'truth and prediction of {len(rows)} images: {folder / name}')

    def _row(self, dataset: Any, index: int, output: Any) -> list[np.ndarray] | None:
        """Returns figures of the truth and the prediction of an image; None for other tasks."""
        names, colors = _classes(dataset)
        if isinstance(output, dict) and output.get('label') is not None:
            image, scores = shown(dataset.pixels(index), dataset.reading), output['scores'].cpu().numpy()
            best = int(scores.argmax())
            return [add_title(image, text) for text in (names[output['label']], f'{names[best]} {scores[best]:.0%}')]
        if 'pred_sem_seg' in output and 'gt_sem_seg' in output:
            image = stored_image(dataset, output.img_path)
            maps = [part.data[0].cpu().numpy() for part in (output.gt_sem_seg, output.pred_sem_seg)]
            if any(labels.shape != image.shape[:2] for labels in maps):
                return None
            self.present |= {label for labels in maps for label in present_classes(labels, len(names))}
            return [draw_labels(*_reduced(image, labels), colors) for labels in maps]
        if 'pred_instances' in output and hasattr(dataset, 'get_data_info'):
            image = stored_image(dataset, output.img_path)
            objects = dataset.get_data_info(index).get('instances') or []
            truth = true_instances(objects, image.shape[:2])
            found = Instances.from_data(output.pred_instances, threshold=self.threshold)
            if len(names) > 1:
                self.present |= set(truth.labels.tolist()) | set(found.labels.tolist())
            return [draw_instances(image, truth, names, colors, with_scores=False),
                    draw_instances(image, found, names, colors)]
        return None


def stored_image(dataset: Any, path: str) -> np.ndarray:
    """Reads an image with the first transform of the pipeline of a data set. Returns (H, W, 3) uint8 RGB."""
    while not hasattr(dataset, 'pipeline') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    load = dataset.pipeline.transforms[0]
    pixels, bands = load({'img_path': path})['img'], getattr(load, 'bands', None)
    return to_shown(pixels[..., ::-1]) if bands is None or bands.is_color else shown(pixels, bands)  # mmcv loads BGR


def true_instances(objects: Sequence[dict], size: tuple[int, int]) -> Instances:
    """Converts annotations of mmdet to instances. Crowds are excluded.

    Args:
        objects: `instances` of `get_data_info` of a data set.
        size: (H, W) of the image.
    """
    kept = [entry for entry in objects if not entry.get('ignore_flag')]
    masks = [mask for entry in kept for mask in _mask(entry.get('mask'), size)]
    return Instances(
        np.array([entry['bbox'] for entry in kept], np.float32).reshape(-1, 4), np.ones(len(kept), np.float32),
        np.array([entry['bbox_label'] for entry in kept], np.int64), masks if len(masks) == len(kept) else None)


def _mask(segmentation: Any, size: tuple[int, int]) -> Iterator[CroppedRLE]:
    if isinstance(segmentation, list) and segmentation:
        segmentation = coco_rle.merge(coco_rle.frPyObjects(segmentation, *size))
    elif isinstance(segmentation, dict) and isinstance(segmentation.get('counts'), list):
        segmentation = coco_rle.frPyObjects(segmentation, *size)
    if isinstance(segmentation, dict):
        yield CroppedRLE.from_mask(coco_rle.decode(segmentation).astype(bool))


def _reduced(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns every n-th pixel of a large image and of its labels, which is enough for the small figure."""
    step = max(1, len(image) // _MAX_HEIGHT)
    return image[::step, ::step], labels[::step, ::step]


def _classes(dataset: Any) -> tuple[list[str], list[tuple[int, int, int]]]:
    """Returns names and colors of the classes of a data set."""
    meta = getattr(dataset, 'metainfo', None) or {}
    names = [str(name) for name in meta.get('classes') or ()]
    return names, class_colors(len(names), meta.get('palette'))
