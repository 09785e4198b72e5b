"""COCO's format of objects, read by CocoDataset of mmdet and by the LVIS data set of this package."""
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset

from mae_backbone.formats.coco_file import CocoFile, read_coco
from mae_backbone.formats.coco_json import read_annotations, without_byte_order_mark
from mae_backbone.formats.coco_labels import CocoLabels
from mae_backbone.formats.coco_masks import is_complete
from mae_backbone.formats.data_format import ClassNames, DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.drawing import draw_objects
from mae_backbone.formats.exif_orientation import box_outline, polygon_outline
from mae_backbone.formats.files import ALLOW_OUTSIDE, missing_files, paths_outside
from mae_backbone.formats.messages import does_not_exist, first_few
from mae_backbone.formats.names import accent_hint
from mae_backbone.formats.subset import subset_by_indices
from mae_backbone.formats.tables import frequency_table
from mae_backbone.utils.palette import palette

AREAS = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, float('inf'))}  # pixels, COCO's definition


class CocoFormat(DataFormat):
    """Boxes and masks in an annotation file of mmdet's CocoDataset."""

    dataset_types: ClassVar = {'CocoDataset': ('load_data_list', 'parse_data_info')}
    takes_urls: ClassVar[bool] = False           # True if images may have `coco_url` instead of `file_name`
    metric_reads_iscrowd: ClassVar[bool] = True  # True if the metric fails without `iscrowd`

    @property
    def file(self) -> CocoFile:
        """Summary of the annotation file. Raises DataError if the file cannot be used."""
        return read_coco(self.spec.annotations, root=self.spec.root)

    @property
    def labels(self) -> CocoLabels:
        """Labels of the annotation file. Raises DataError if the file cannot be used."""
        return CocoLabels(self.file, self.spec)

    def prepare(self) -> list[str]:
        """Replaces an annotation file that starts with a byte-order mark by a copy without it."""
        path = self.spec.annotations
        copy = without_byte_order_mark(path)
        if copy == path:
            return []
        self.spec.cfg.ann_file = copy
        return [f'{path} starts with a byte-order mark, and is read from a copy without it: {copy}']

    # ---- classes

    def classes(self) -> ClassNames:
        """Returns the names of the categories, or only those that the config selects."""
        if not os.path.isfile(self.spec.annotations):
            return ClassNames([], '')
        names, chosen = list(self.file.categories.values()), set(self.spec.config_class_names)
        if chosen and chosen < set(names):
            return ClassNames([name for name in names if name in chosen],
                              f'the config; {len(names)} in {self.spec.annotations}')
        return ClassNames(names, self.spec.annotations)

    def set_classes(self, names: list[str]) -> list[str]:
        """Writes class names into the config of the data set. Returns no lines."""
        metainfo = self.spec.cfg.get('metainfo') or {}
        if self.spec.class_names != names or isinstance(metainfo.get('classes'), str):
            self.spec.cfg.metainfo = ConfigDict(metainfo, classes=tuple(names), palette=palette(len(names)))
        return []

    # ---- checks

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Refuses annotations with which mmdet or the metric would fail, or which they would read wrongly."""
        self.check_root()
        file, content, evaluated = self.file, self.labels, labels and self.spec.split != 'train'
        content.check_classes(takes_urls=self.takes_urls)
        if labels:
            content.check_boxes()
        if masks:
            content.check_masks(evaluated=evaluated)
        if evaluated:
            content.check_metric(reads_iscrowd=self.metric_reads_iscrowd)
        self._check_image_files()
        count = len(content.categories)
        lines = [f'{self.spec.split}: {len(file.images):,} images, {content.num_boxes:,} boxes of {count} '
                 f'class{"es" * (count > 1)}']
        lines += content.notes(masks=masks) if file.has_annotations else []
        lines += content.check_consistency(masks=masks) if labels else []
        lines += self.unused_images(len(file.images))
        return lines + self._check_image_sizes()

    def _check_image_files(self) -> None:
        folder = self.spec.folder('img')
        if not os.path.isdir(folder):
            raise DataError(f'image folder {does_not_exist(folder)}: set data_prefix of the {self.spec.split} set, or '
                            'pass the folder of the data with --data-root DIR')
        missing = missing_files(self.images())
        if missing:
            raise DataError(f'{len(missing):,} of the {len(self.file.images):,} images in {self.file.path} do not '
                            f'exist ({first_few(missing)}): copy them there, correct file_name, or set data_prefix of '
                            f'the {self.spec.split} set{accent_hint(missing)}')

    def _check_image_sizes(self) -> list[str]:
        """Compares the sizes of all images with the annotation file."""
        stated = self.stated_sizes()
        sizes, lines = self.read_image_sizes()
        as_stored: list[str] = []
        wrong: list[str] = []
        for path, size in sizes.items():
            width, height = (size.width, size.height) if self.ignores_orientation else size.upright
            if stated[path] == (width, height):
                continue
            example = f'{path}: {stated[path][0]}x{stated[path][1]} stated, {width}x{height} read'
            (as_stored if stated[path] == (size.width, size.height) else wrong).append(example)
        if as_stored:
            raise DataError(f'{self.spec.split}: {len(as_stored):,} of {len(sizes):,} images are rotated by their EXIF '
                            f'orientation, but annotated as they are stored ({"; ".join(as_stored[:3])}), so that '
                            'boxes would not fit: save these images again without EXIF orientation, or set '
                            "color_type='color_ignore_orientation' in LoadImageFromFile of all pipelines")
        if wrong:
            raise DataError(f'{self.spec.split}: {len(wrong):,} of {len(sizes):,} images have another size than '
                            f'{self.spec.annotations} states ({"; ".join(wrong[:3])}), so that boxes would not fit: '
                            'annotate the images as they are now, or restore the images that were annotated (not '
                            'resized)')
        return lines

    def label_warnings(self) -> list[str]:
        """Returns warnings about boxes that are not used, and about classes without a box in training."""
        return self.labels.warnings()

    def check_evaluator(self, evaluator: ConfigDict, name: str) -> None:
        """Refuses CocoMetric and LVISMetric with an annotation file that lists other images than this data set."""
        path = evaluator.get('ann_file')
        if not path or not str(evaluator.get('type')).endswith(('CocoMetric', 'LVISMetric')):
            return
        if read_coco(path).images.keys() != self.file.images.keys():
            raise DataError(f'{name}.ann_file is {path}, which has other images than {self.spec.annotations}, which '
                            f'{self.spec.split}_dataloader reads: set both to the same file')

    # ---- subset of the labels

    def subset(self, fraction: float, seed: int) -> str:
        """Keeps the annotations of a fraction of the images that training does not filter out."""
        return subset_by_indices(self.spec, _labels_shown, fraction, seed, pipeline=[])

    # ---- survey

    def _image_paths(self) -> list[str]:
        folder = self.spec.folder('img')
        return [os.path.join(folder, image.file_name) for image in self.file.images.values()]

    def images(self) -> list[str]:
        """Lists the paths of all images in the annotation file. Raises DataError if one is outside the data root."""
        paths = self._image_paths()
        outside = paths_outside(paths, [self.spec.root, self.spec.folder('img')])
        if outside and not os.environ.get(ALLOW_OUTSIDE):
            raise DataError(f'{self.spec.annotations}: {len(outside):,} of {len(paths):,} images are outside of the '
                            f'data root {self.spec.root} ({first_few(outside)}): correct file_name. If you trust the '
                            f'annotation file, set the environment variable {ALLOW_OUTSIDE}=1')
        return paths

    def stated_sizes(self) -> dict[str, tuple[float, float]]:
        """Returns the (width, height) that the annotation file states for each image path."""
        return {path: (image.width, image.height)
                for path, image in zip(self._image_paths(), self.file.images.values(), strict=True)}

    def statistics(self, pixel_counts: np.ndarray) -> list[str]:
        """Counts boxes by class, by area and by fault."""
        file = self.file
        areas = file.objects.areas
        faults: Counter[str] = Counter()
        for fault, ids in file.mask_faults.items():
            faults[fault.kind] += len(ids)
        num_without_mask = faults.pop('missing', 0)
        boxes = {name: file.num_boxes[number] for number, name in file.categories.items()}
        by_area = ', '.join(f'{np.count_nonzero((low <= areas) & (areas < high)):,} {name}'
                            for name, (low, high) in AREAS.items())
        num_empty = len(file.images) - len(set().union(*file.annotated_images.values()))
        return [f'{len(areas):,} boxes, {len(areas) / len(file.images):.1f} per image, {num_empty:,} images without '
                f'annotations; by area {by_area}',
                f'{file.num_skipped:,} skipped (no area, or outside their image), {file.num_crowds.total():,} crowds, '
                f'{file.num_out_of_bounds:,} reach beyond their image; {num_without_mask:,} without a mask, '
                f'{faults.total():,} broken masks',
                *frequency_table(boxes, 'boxes')]

    def class_counts(self, pixel_counts: np.ndarray) -> dict[str, int]:
        """Counts the boxes of each class that are trained on."""
        return {self.file.categories[number]: self.file.num_boxes[number] for number in self.labels.categories}

    def objects(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the boxes of each image that mmdet trains on, without crowds."""
        objects, known = self.file.objects, {number: label for label, number in enumerate(self.labels.categories)}
        label_of_category = np.array([known.get(number, -1) for number in self.file.categories])
        labels = label_of_category[objects.categories]
        order = np.argsort(objects.images, kind='stable')
        order = order[labels[order] >= 0]
        boxes = np.column_stack([objects.boxes, labels]).astype(np.float32)[order]
        starts = np.searchsorted(objects.images[order], np.arange(len(self.file.images) + 1))
        for index, path in enumerate(self._image_paths()):
            yield path, boxes[starts[index]:starts[index + 1]]

    @property
    def has_masks(self) -> bool:
        """True if the objects that are trained on have masks. Some may have polygons of fewer than three points."""
        missing, misfit, broken = (len(self.file.faulty_masks(kind, self.labels.categories, trained_only=True))
                                   for kind in ('missing', 'misfit', 'broken'))
        return self.file.has_annotations and not (missing or misfit or broken >= self.labels.num_boxes)

    @cached_property
    def _annotations(self) -> dict[str, list[dict]]:
        """Annotations of the images whose labels were read, by absolute path."""
        return {}

    def read_labels(self, paths: Sequence[str]) -> None:
        """Reads the annotations of some images together."""
        wanted = set(map(os.path.abspath, paths))
        paths_of_file = map(os.path.abspath, self._image_paths())
        ids = {number: path for number, path in zip(self.file.images, paths_of_file, strict=True) if path in wanted}
        self._annotations.update({path: [] for path in ids.values()})
        for annotation in read_annotations(self.spec.annotations, ids):
            self._annotations[ids[annotation['image_id']]].append(annotation)

    def _annotations_of(self, path: str) -> list[dict]:
        path = os.path.abspath(path)
        if path not in self._annotations:
            self.read_labels([path])
        return self._annotations[path]

    def outlines(self, path: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yields the outlines of polygons, or of boxes if there are none."""
        for annotation in self._annotations_of(path):
            polygons = annotation.get('segmentation')
            if annotation.get('iscrowd'):
                continue
            if isinstance(polygons, list) and polygons and all(map(is_complete, polygons)):
                yield polygon_outline(polygons, size)
            else:
                yield box_outline(annotation['bbox'], size)

    def draw(self, image: np.ndarray, path: str) -> np.ndarray:
        """Draws boxes, masks and class names."""
        names = self.file.categories
        colors = self.colors()
        return draw_objects(image, self._annotations_of(path), names,
                            {number: colors.get(name, _NO_CLASS) for number, name in names.items()})


class LvisFormat(CocoFormat):
    """Boxes and masks of LVIS. Images may be named by URL, and annotations need no `iscrowd`."""

    dataset_types: ClassVar = {'LVISDataset': ('load_data_list', 'parse_data_info')}
    takes_urls = True
    metric_reads_iscrowd = False


_NO_CLASS = (128, 128, 128)  # color of categories that are not in the config


def _labels_shown(dataset: BaseDataset, index: int) -> set[int]:
    return {instance['bbox_label'] for instance in dataset.get_data_info(index)['instances']
            if not instance['ignore_flag']}
