"""Writes predictions to files. Each file is renamed into place when it is complete."""
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from mmengine.config import Config
from PIL import Image

from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.registry import formats_in
from mae_backbone.prediction.base import BasePredictor, Prediction
from mae_backbone.prediction.instances import Instances
from mae_backbone.utils.atomic_write import atomic_path, write_text
from mae_backbone.utils.image_grid import save_picture
from mae_backbone.utils.printable import printable

# Name of the file with the predictions of each task.
RESULT_FILES = {'detection': 'predictions.json', 'segmentation': 'areas.json', 'classification': 'scores.json'}


class JsonList:
    """File with a JSON list whose entries are written one by one and are not kept in memory.

    The file is renamed into place when the `with` block ends. If an exception such as an interruption ends the block,
    the file contains the entries that were added before.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.count, self._stack = path, 0, ExitStack()
        temporary = self._stack.enter_context(atomic_path(path))
        self._file = self._stack.enter_context(temporary.open('w', encoding='utf-8'))
        self._file.write('[')

    def add(self, entry: dict) -> None:
        """Appends an entry."""
        self._file.write(',\n' * bool(self.count) + json.dumps(entry))
        self.count += 1

    def __enter__(self) -> 'JsonList':
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:  # the exception is not passed on, so that the file is renamed into place
            self._file.write(']\n')


class Results:
    """Files that `mae-backbone predict` writes into a folder.

    Figures are `NAME.png`. A detector also writes `predictions.json` in COCO's result format, which `loadRes` of
    pycocotools reads, and `images.json` with the ids of the images and categories. A segmenter also writes
    `areas.json`, and `labels/NAME.png` with the label of each pixel. A classifier also writes `scores.json`.

    Args:
        folder: output folder. It must exist.
        predictor: predictor that computes the predictions.
        cfg: config of the predictor, if any. The ids of its annotation file are used if it exists and has the same
            classes.
    """

    def __init__(self, folder: str | Path, predictor: BasePredictor, cfg: Config | None) -> None:
        self.folder, self.predictor = Path(folder), predictor
        self.images: list[dict] = []
        self.image_ids, self.category_ids, self.id_source = _find_ids(cfg, predictor.classes)
        self.next_id = 1 + max((i for i in self.image_ids.values() if isinstance(i, int)), default=0)
        self.num_new_ids = 0
        self.list = JsonList(self.folder / RESULT_FILES[predictor.task])

    def __enter__(self) -> 'Results':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.list.__exit__(kind, error, trace)
        if self.predictor.task == 'detection':
            categories = [{'id': number, 'name': name}
                          for number, name in zip(self.category_ids, self.predictor.classes, strict=True)]
            content = {'images': self.images, 'categories': categories, 'numbered_by': self.id_source}
            write_text(self.folder / 'images.json', json.dumps(content, indent=1))

    def summary(self) -> str:
        """Returns the name of the file with the predictions, and for a detector the source of its ids."""
        ids = f', with ids from {self.id_source}' if self.predictor.task == 'detection' else ''
        return f'{self.list.path.name}{ids}'

    def new_ids(self) -> str:
        """Returns a line about the images that are not in the annotation file with the ids; '' if there are none."""
        if not self.image_ids or not self.num_new_ids:
            return ''
        example = next(iter(self.image_ids))
        return (f'{self.num_new_ids} of {len(self.images)} images are not in {self.id_source} and have new ids, from '
                f'{self.next_id - self.num_new_ids}. Names are compared with those of this file, such as '
                f'{printable(example)}: to get its ids, pass the folder to which its names are relative')

    def add(self, prediction: Prediction, name: str, size: tuple[int, int], *, frame: int | None = None,
            seconds: float | None = None) -> None:
        """Writes the prediction for an image.

        Args:
            prediction: prediction for the image.
            name: name of the image or the video.
            size: (H, W) of the image in pixels.
            frame, seconds: index and time of a frame of a video; None for an image.
        """
        height, width = size
        entry: dict = {'file_name': name, 'width': width, 'height': height}
        entry |= {} if frame is None else {'frame': frame}
        entry |= {} if seconds is None else {'seconds': seconds}
        classes = self.predictor.classes
        if isinstance(prediction, Instances):
            image_id = self._image_id(name, frame)
            self.images.append({'id': image_id, **entry})
            for result in coco_results(prediction, image_id, self.category_ids, size):
                self.list.add(result)
        elif self.predictor.task == 'classification':
            scores = [round(float(score), 5) for score in prediction]
            self.list.add({**entry, 'class': classes[int(prediction.argmax())],
                           'scores': dict(zip(classes, scores, strict=True))})
        else:
            self.list.add({**entry, **areas(prediction, classes)})

    def add_figure(self, image: np.ndarray, prediction: Prediction, name: Path) -> None:
        """Draws a prediction to NAME.png, and the labels of a segmenter to labels/NAME.png."""
        name = name.with_name(name.name + '.png')
        with _new_file(self.folder / name) as path:
            save_picture(str(path), self.predictor.draw(image, prediction))
        if self.predictor.task == 'segmentation' and not isinstance(prediction, Instances):
            with _new_file(self.folder / 'labels' / name) as path:
                save_labels(path, prediction, self.predictor.colors)

    def _image_id(self, name: str, frame: int | None) -> int | str:
        """Id of the image in the annotation file, or the next unused id."""
        if frame is None and name in self.image_ids:
            return self.image_ids[name]
        self.num_new_ids += 1
        self.next_id += 1
        return self.next_id - 1


@contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Like `atomic_path`, but makes the folder of the file, and keeps the suffix, which determines the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, keep_suffix=True) as temporary:
        yield temporary


def coco_results(instances: Instances, image_id: int | str, category_ids: Sequence[int | str],
                 size: tuple[int, int]) -> Iterator[dict]:
    """Converts instances in an image of `size` (H, W) to entries of COCO's format of results."""
    for i in range(len(instances)):
        x1, y1, x2, y2 = instances.boxes[i].tolist()
        entry = {'image_id': image_id, 'category_id': category_ids[instances.labels[i]],
                 'bbox': [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                 'score': round(float(instances.scores[i]), 5)}
        if instances.masks is not None:
            entry['segmentation'] = instances.masks[i].in_image(*size)
        yield entry


def areas(labels: np.ndarray, classes: Sequence[str]) -> dict[str, dict]:
    """Returns the area of each class that occurs in labels (H, W): 'pixels' and 'share', the fraction of the image."""
    pixels = np.bincount(labels.ravel(), minlength=len(classes))[:len(classes)].tolist()
    counts = {name: count for name, count in zip(classes, pixels, strict=True) if count}
    return {'pixels': counts, 'share': {name: round(count / labels.size, 6) for name, count in counts.items()}}


def save_labels(path: Path, labels: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> None:
    """Writes labels (H, W) to a PNG file: uint8 with the colors of the classes as palette, uint16 as a gray image."""
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        values = [value for color in colors for value in color]
        # All 256 entries. With fewer entries, PIL stores fewer bits and changes labels without a color, such as 255.
        image.putpalette(values + [0] * (768 - len(values)))
    image.save(path, optimize=False)


def _find_ids(cfg: Config | None, classes: Sequence[str]) -> tuple[dict[str, int | str], list[int | str], str]:
    """Returns the ids of images by file name, the ids of the classes in their order, and the source of the ids."""
    for data_format in formats_in(cfg, ['test']) if cfg is not None else ():
        if isinstance(data_format, CocoFormat) and Path(data_format.spec.annotations).is_file():
            file = data_format.file
            ids = {name: number for number, name in file.categories.items()}
            if set(classes) <= set(ids):
                return ({image.file_name: number for number, image in file.images.items()},
                        [ids[name] for name in classes], file.path)
    return {}, list(range(1, len(classes) + 1)), 'the order of the classes and of the images, starting at 1'
