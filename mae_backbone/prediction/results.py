"""Predictions as files, each written whole or not at all."""
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from mmengine.config import Config
from PIL import Image

from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.registry import formats_in
from mae_backbone.prediction.instances import Objects
from mae_backbone.prediction.predictor import Prediction, Predictor
from mae_backbone.utils.image_grid import save_picture


class JsonList:
    """A file with a JSON list that grows by entries and is never held in memory.

    It gets its name when it is closed, also by an exception such as an interruption: then with what was added so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.part, self.count = path, part_of(path), 0
        self.file = self.part.open('w', encoding='utf-8')
        self.file.write('[')

    def add(self, entry: dict) -> None:
        self.file.write(',\n' * bool(self.count) + json.dumps(entry))
        self.count += 1

    def __enter__(self) -> 'JsonList':
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self.file:
                self.file.write(']\n')
            os.replace(self.part, self.path)
        finally:
            self.part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """The name under which a file is written before it is whole; its suffix stays, as writers go by it."""
    return path.with_name(f'.{path.stem}.part{path.suffix}')


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives a name to write to; the file gets its own afterwards, and is removed if anything goes wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


class Results:
    """The files of a run of tools/predict.py, in one folder.

    Pictures are `NAME.png`. Beside them is, of a detector, `predictions.json` in COCO's format of results (pycocotools'
    `loadRes` reads it) with `images.json`, whose `images` and `categories` say what its numbers stand for; of a
    segmenter `areas.json`, and `labels/NAME.png` with the label of each pixel; of a classifier `scores.json`.

    Args:
        folder: exists.
        predictor: whose predictions they are.
        cfg: its config, whose annotation file may have numbers for images and classes.
    """

    def __init__(self, folder: str | Path, predictor: Predictor, cfg: Config) -> None:
        self.folder, self.predictor, self.images = Path(folder), predictor, []
        name = {'detection': 'predictions', 'segmentation': 'areas', 'classification': 'scores'}[predictor.task]
        self.image_ids, self.category_ids, self.numbered_by = _numbers(cfg, predictor.classes)
        self.next_id = 1 + max((i for i in self.image_ids.values() if isinstance(i, int)), default=0)
        self.list = JsonList(self.folder / f'{name}.json')

    def __enter__(self) -> 'Results':
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.list.__exit__(kind, error, trace)
        if self.predictor.task == 'detection':
            names = zip(self.category_ids, self.predictor.classes, strict=True)
            about = {'images': self.images, 'categories': [{'id': i, 'name': name} for i, name in names],
                     'numbered_by': self.numbered_by}
            with written_whole(self.folder / 'images.json') as path:
                path.write_text(json.dumps(about, indent=1), encoding='utf-8')

    def about(self) -> str:
        """What the numbers in the files stand for, for a person."""
        return f'{self.list.path.name}' + (f', numbered by {self.numbered_by}' * (self.predictor.task == 'detection'))

    def add(self, result: Prediction, name: str, size: tuple[int, int], **more: object) -> None:
        """Writes down what was predicted for the image, or the frame of a video, of that name and size (H, W)."""
        height, width = size
        about = {'file_name': name, 'width': width, 'height': height, **more}
        task = self.predictor.task
        if task == 'classification':
            self.list.add({**about, 'class': self.predictor.classes[int(result.argmax())],
                           'scores': dict(zip(self.predictor.classes, _rounded(result), strict=True))})
        elif task == 'segmentation':
            self.list.add({**about, **areas(result, self.predictor.classes)})
        else:
            number = self._image_id(name, **more)
            self.images.append({'id': number, **about})
            for entry in coco_results(result, number, self.category_ids, size):
                self.list.add(entry)

    def add_picture(self, image: np.ndarray, result: Prediction, name: Path) -> None:
        """Draws a prediction; of a segmenter the labels too."""
        with written_whole(self.folder / name.with_name(name.name + '.png')) as path:
            save_picture(str(path), self.predictor.draw(image, result))
        if self.predictor.task == 'segmentation':
            with written_whole(self.folder / 'labels' / name.with_name(name.name + '.png')) as path:
                save_labels(path, result, self.predictor.colors)

    def _image_id(self, name: str, frame: int | None = None, **_: object) -> int | str:
        """The number of the annotation file, or the next one that is not in it."""
        if frame is None and name in self.image_ids:
            return self.image_ids[name]
        self.next_id += 1
        return self.next_id - 1


def coco_results(objects: Objects, image_id: int | str, category_ids: Sequence[int | str],
                 size: tuple[int, int]) -> Iterator[dict]:
    """Objects in an image of `size` (H, W) -> entries of COCO's format of results."""
    for i in range(len(objects)):
        x1, y1, x2, y2 = objects.boxes[i].tolist()
        entry = {'image_id': image_id, 'category_id': category_ids[objects.labels[i]],
                 'bbox': [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                 'score': round(float(objects.scores[i]), 5)}
        if objects.masks is not None:
            entry['segmentation'] = objects.masks[i].in_image(*size)
        yield entry


def areas(labels: np.ndarray, classes: Sequence[str]) -> dict[str, dict]:
    """labels (H, W) -> the pixels of each class that is there, and their share of the image."""
    pixels = np.bincount(labels.ravel(), minlength=len(classes))[:len(classes)].tolist()
    found = [(name, count) for name, count in zip(classes, pixels, strict=True) if count]
    return {'pixels': dict(found), 'share': {name: round(count / labels.size, 6) for name, count in found}}


def save_labels(path: Path, labels: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> None:
    """labels (H, W) uint8 -> a PNG of them in which each has its color; uint16, which PNG cannot color, as gray."""
    picture = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        picture.putpalette([part for color in colors for part in color])
    picture.save(path, optimize=False)


def _rounded(scores: np.ndarray) -> list[float]:
    return [round(float(score), 5) for score in scores]


def _numbers(cfg: Config, classes: Sequence[str]) -> tuple[dict[str, int | str], list[int | str], str]:
    """Numbers of images by file name, of the classes in their order, and where they are from."""
    for data_format in formats_in(cfg, ['test']):
        if isinstance(data_format, CocoFormat) and os.path.isfile(data_format.spec.annotations):
            file = data_format.file
            numbers = {name: number for number, name in file.categories.items()}
            if set(classes) <= set(numbers):
                return ({image.file_name: number for number, image in file.images.items()},
                        [numbers[name] for name in classes], file.path)
    return {}, list(range(1, len(classes) + 1)), 'the order of the classes and of the images, from 1'
