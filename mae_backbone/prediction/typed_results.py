"""Classes of results: the prediction of one image, with its figure and conversions to formats of other programs."""
import base64
import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mae_backbone.data.decode import DEFAULT
from mae_backbone.data.reading import Reading, shown
from mae_backbone.hooks.reconstruction import reconstruction_titles
from mae_backbone.prediction.inputs import Source
from mae_backbone.prediction.instances import Instances
from mae_backbone.prediction.results import areas, coco_results
from mae_backbone.prediction.visualization import describe, draw_prediction
from mae_backbone.utils.image_grid import save_picture, side_by_side

if TYPE_CHECKING:
    import supervision

_SUPERVISION = 'to_supervision needs the package supervision: pip install mae_backbone[supervision]'


class Figure(ABC):
    """Base class of results with a figure, which notebooks display."""

    @abstractmethod
    def draw(self) -> np.ndarray:
        """Returns the figure (H', W', 3) uint8 RGB."""

    @abstractmethod
    def describe(self) -> str:
        """Summarizes the object in a few words."""

    def save(self, path: str | Path) -> None:
        """Writes the figure of `draw` to an image file."""
        save_picture(str(path), self.draw())

    def _repr_png_(self) -> bytes:
        """The figure as PNG, for notebooks."""
        return cv2.imencode('.png', self.draw()[..., ::-1])[1].tobytes()

    def _repr_html_(self) -> str:
        """The figure with its summary, for notebooks."""
        data = base64.b64encode(self._repr_png_()).decode()
        text = html.escape(self.describe())
        return (f'<figure><img src="data:image/png;base64,{data}" alt="{text}" style="max-width: 100%">'
                f'<figcaption>{text}</figcaption></figure>')


@dataclass(frozen=True, eq=False, repr=False)
class Result(Figure):
    """Prediction of one image.

    Attributes:
        source: the image and where it comes from.
        size: (H, W) of the image in pixels.
        classes: names of the classes.
        colors: (red, green, blue) of each class.
        decoding: decoding of the image file.
    """

    source: Source
    size: tuple[int, int]
    classes: tuple[str, ...]
    colors: list[tuple[int, int, int]]
    decoding: Reading = field(default=DEFAULT, kw_only=True)

    @property
    @abstractmethod
    def prediction(self) -> Any:
        """Prediction as `Predictor` returns it: `Instances`, labels (H, W) or scores (num_classes,)."""

    @property
    def path(self) -> Path | None:
        """Path of the file or video; None for an image in memory."""
        return self.source.path

    def image(self) -> np.ndarray:
        """Returns the image (H, W, 3) uint8 RGB, or (H, W, channels) for bands. An image file is read again."""
        return self.source.read(self.decoding)

    def draw(self, image: np.ndarray | None = None) -> np.ndarray:
        """Draws the prediction on the image, or on another image (H, W, 3). Returns a figure (H', W', 3) uint8 RGB."""
        pixels = self.image() if image is None else image
        return draw_prediction(shown(pixels, self.decoding), self.prediction, self.classes, self.colors)

    def describe(self) -> str:
        """Summarizes the prediction in a few words."""
        return describe(self.prediction, self.classes)

    def __repr__(self) -> str:
        name = 'image' if self.path is None else self.path.name
        return f'{type(self).__name__}({name}, {self.size[1]}x{self.size[0]} pixels: {self.describe()})'


@dataclass(frozen=True, eq=False, repr=False)
class DetectionResult(Result):
    """Objects in an image: N boxes with scores and classes, and masks if the model predicts masks."""

    instances: Instances = field(kw_only=True)

    @property
    def prediction(self) -> Instances:
        """The instances."""
        return self.instances

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32: x1, y1, x2, y2 in pixels of the image."""
        return self.instances.boxes

    @property
    def scores(self) -> np.ndarray:
        """(N,) float32 in [0, 1], highest first."""
        return self.instances.scores

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, indices of `classes`."""
        return self.instances.labels

    @property
    def names(self) -> list[str]:
        """Name of the class of each object."""
        return [self.classes[label] for label in self.labels]

    @property
    def masks(self) -> np.ndarray | None:
        """(N, H, W) bool; None if the model does not predict masks. Each access decodes them (N * H * W bytes)."""
        if self.instances.masks is None:
            return None
        full = np.zeros((len(self), *self.size), bool)
        for mask, pixels in zip(self.instances.masks, full, strict=True):
            inner = mask.to_mask()
            pixels[mask.top:mask.top + inner.shape[0], mask.left:mask.left + inner.shape[1]] = inner
        return full

    @property
    def rles(self) -> list[dict] | None:
        """N masks as run lengths in COCO's format (`pycocotools.mask.decode` reads them); None without masks."""
        masks = self.instances.masks
        return None if masks is None else [mask.in_image(*self.size) for mask in masks]

    def filter(self, threshold: float) -> 'DetectionResult':
        """Returns the objects whose score is at least `threshold`."""
        return replace(self, instances=self.instances.select(np.flatnonzero(self.scores >= threshold)))

    def to_coco(self, *, image_id: int | str = 1, category_ids: Sequence[int | str] | None = None) -> list[dict]:
        """Returns entries in COCO's result format, as in `predictions.json` of `mae-backbone predict`.

        Args:
            image_id: id of the image.
            category_ids: ids of the classes in their order; by default 1, 2, ...
        """
        ids = range(1, len(self.classes) + 1) if category_ids is None else category_ids
        return list(coco_results(self.instances, image_id, ids, self.size))

    def to_supervision(self) -> 'supervision.Detections':
        """Returns the objects as `supervision.Detections`, with masks if there are any.

        Raises:
            ImportError: supervision is not installed.
        """
        supervision = _import_supervision()
        return supervision.Detections(xyxy=self.boxes, mask=self.masks, confidence=self.scores, class_id=self.labels,
                                      data={'class_name': np.array(self.names, dtype=str)})


@dataclass(frozen=True, eq=False, repr=False)
class SegmentationResult(Result):
    """Class of each pixel of an image."""

    labels: np.ndarray = field(kw_only=True)  # (H, W) uint8, or uint16 for more than 256 classes

    @property
    def prediction(self) -> np.ndarray:
        """The labels."""
        return self.labels

    def mask(self, name: str) -> np.ndarray:
        """Returns the pixels (H, W) bool of a class.

        Raises:
            ValueError: the model has no class with this name.
        """
        if name not in self.classes:
            raise ValueError(f'there is no class {name!r}: the model has {", ".join(self.classes)}')
        return self.labels == self.classes.index(name)

    def areas(self) -> dict[str, dict]:
        """Returns pixels and fraction ('share') of each class that occurs, as in `areas.json`."""
        return areas(self.labels, self.classes)

    def to_coco(self, *, image_id: int | str = 1, category_ids: Sequence[int | str] | None = None) -> list[dict]:
        """Returns an entry in COCO's stuff result format, the run lengths of its pixels, for each class that occurs."""
        from pycocotools import mask as coco_rle
        ids = range(1, len(self.classes) + 1) if category_ids is None else category_ids
        entries = []
        for label in np.unique(self.labels[self.labels < len(self.classes)]).tolist():
            rle = coco_rle.encode(np.asfortranarray(self.labels == label, np.uint8))
            entries.append({'image_id': image_id, 'category_id': ids[label],
                            'segmentation': {'size': list(rle['size']), 'counts': rle['counts'].decode()}})
        return entries

    def to_supervision(self) -> 'supervision.Detections':
        """Returns one entry for each class that occurs, with its mask and its box, as `supervision.Detections`.

        Raises:
            ImportError: supervision is not installed.
        """
        supervision = _import_supervision()
        labels = np.unique(self.labels[self.labels < len(self.classes)]).astype(int)
        masks = self.labels[None] == labels[:, None, None]
        names = np.array([self.classes[label] for label in labels], dtype=str)
        return supervision.Detections(xyxy=supervision.mask_to_xyxy(masks), mask=masks, class_id=labels,
                                      data={'class_name': names})


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationResult(Result):
    """Class of an image."""

    scores: np.ndarray = field(kw_only=True)  # (num_classes,) float32, probabilities of the classes

    @property
    def prediction(self) -> np.ndarray:
        """The scores."""
        return self.scores

    @property
    def label(self) -> int:
        """Index of the class with the highest score."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Name of the class with the highest score."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    @property
    def probabilities(self) -> dict[str, float]:
        """Score of each class by its name."""
        return dict(zip(self.classes, self.scores.tolist(), strict=True))

    def top(self, number: int = 5) -> list[tuple[str, float]]:
        """Returns the names and scores of the best classes, best first."""
        return [(self.classes[i], float(self.scores[i])) for i in np.argsort(-self.scores, kind='stable')[:number]]

    def to_supervision(self) -> 'supervision.Classifications':
        """Returns the scores as `supervision.Classifications`.

        Raises:
            ImportError: supervision is not installed.
        """
        supervision = _import_supervision()
        return supervision.Classifications(class_id=np.arange(len(self.scores)), confidence=self.scores)


@dataclass(frozen=True, eq=False)
class ReconstructionResult(Figure):
    """An image, its visible patches, and the reconstruction of a MAE.

    Attributes:
        source: the image and where it comes from.
        original, masked, reconstruction: (H, W, 3) uint8 RGB, resized to the image size (`reconstruct`) or to the scale
            (`reconstruct_whole`) of the pretraining.
        hidden: (h, w) bool, True for patches that the encoder did not get. Patches at the lower and right edges may
            extend beyond the image.
        patch_size: height and width of a patch in pixels.
    """

    source: Source
    original: np.ndarray
    masked: np.ndarray
    reconstruction: np.ndarray
    hidden: np.ndarray
    patch_size: int

    def draw(self) -> np.ndarray:
        """Draws original, masked image and reconstruction next to each other: (H', W', 3) uint8 RGB."""
        return draw_reconstructions([self])

    def describe(self) -> str:
        """Returns a text with the fraction of hidden patches, and the mean absolute error on them (0 to 255)."""
        height, width = self.original.shape[:2]
        pixels = self.hidden.repeat(self.patch_size, 0).repeat(self.patch_size, 1)[:height, :width]
        error = np.abs(self.original.astype(np.int16) - self.reconstruction)[pixels].mean()
        return f'{self.hidden.mean():.0%} of the patches hidden, mean error {error:.1f} of 255'

    def __repr__(self) -> str:
        name = 'image' if self.source.path is None else self.source.path.name
        return f'ReconstructionResult({name}: {self.describe()})'


def draw_reconstructions(results: Sequence[ReconstructionResult]) -> np.ndarray:
    """Draws reconstructions below each other: figure (H, W, 3) uint8 RGB, one row per image."""
    height = max(192, min(512, max(one.original.shape[0] for one in results)))
    return side_by_side([[one.original, one.masked, one.reconstruction] for one in results],
                        reconstruction_titles(results[0].hidden), height=height)


def to_result(prediction: Any, task: str, source: Source, size: tuple[int, int], classes: tuple[str, ...],
              colors: list[tuple[int, int, int]], decoding: Reading = DEFAULT) -> Result:
    """Wraps the result of the `Predictor` of a task for an image of `size` (H, W)."""
    if task == 'detection':
        return DetectionResult(source, size, classes, colors, decoding=decoding, instances=prediction)
    if task == 'segmentation':
        return SegmentationResult(source, size, classes, colors, decoding=decoding, labels=prediction)
    return ClassificationResult(source, size, classes, colors, decoding=decoding, scores=prediction)


def _import_supervision() -> ModuleType:
    """Returns the package supervision. Raises ImportError with the pip command if it is not installed."""
    try:
        import supervision
    except ImportError as error:
        raise ImportError(_SUPERVISION) from error
    return supervision
