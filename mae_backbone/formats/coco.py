"""COCO's format of objects, read by CocoDataset of mmdet and by the LVIS data set of this package."""
import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset

from mae_backbone.formats.coco_file import (
    NO_ISCROWD,
    CocoFile,
    Id,
    image_file,
    is_trained,
    read_coco,
    read_content,
    without_byte_order_mark,
)
from mae_backbone.formats.coco_masks import is_complete
from mae_backbone.formats.data_format import ClassNames, DataFormat
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.drawing import draw_objects
from mae_backbone.formats.exif_orientation import box_outline, polygon_outline
from mae_backbone.formats.files import ALLOW_OUTSIDE, missing_files, paths_outside
from mae_backbone.formats.messages import case_hint, does_not_exist, first_few
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

    @property
    def categories(self) -> list[Id]:
        """Ids of the categories that the config trains or tests, in the order of the labels."""
        names = set(self.spec.class_names)
        return [number for number, name in self.file.categories.items() if name in names]

    # ---- checks

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Refuses annotations with which mmdet or the metric would fail, or which they would read wrongly."""
        self.check_root()
        file, evaluated = self.file, labels and self.spec.split != 'train'
        self._check_class_order()
        num_boxes = sum(file.num_boxes[number] for number in self.categories)
        if labels:
            self._check_labels(num_boxes)
        if masks:
            self._check_masks(evaluated=evaluated)
        if evaluated:
            self._check_metric()
        self._check_image_files()
        lines = [f'{self.spec.split}: {len(file.images):,} images, {num_boxes:,} boxes of {len(self.categories)} '
                 f'class{"es" * (len(self.categories) > 1)}']
        lines += self._notes(masks=masks) if file.has_annotations else []
        lines += self._check_consistency(masks=masks) if labels else []
        lines += self.unused_images(len(file.images))
        return lines + self._check_image_sizes()

    def _check_class_order(self) -> None:
        file, names = self.file, self.spec.class_names
        if file.num_images_by_url and not self.takes_urls:
            raise DataError(f"{file.path}: {file.num_images_by_url:,} of {len(file.images):,} images have no "
                            "'file_name': add it. LVIS has coco_url instead: set type='mae_backbone.LVISDataset'")
        # mmdet numbers labels in the order of the categories of each file, but their names are in the order of the
        # classes in the config. Therefore both orders must be equal.
        if [name for name in file.categories.values() if name in names] != names:
            raise DataError(f'{file.path}: its {len(file.categories)} categories '
                            f'({first_few(file.categories.values())}) are not the {len(names)} classes to train '
                            f'({first_few(names)}) in the same order, so that labels would be mixed up: write the same '
                            'list of categories into the annotation files of all splits, including categories without '
                            f'a box{case_hint(file.categories.values(), names)}')

    def _check_labels(self, num_boxes: int) -> None:
        file = self.file
        if not file.has_annotations:
            raise DataError(f"{file.path} has no list 'annotations': set ann_file to the file with the labels. Without "
                            'labels, `mae-backbone predict` can predict the images, but training and testing need '
                            'labels')
        num_crowds = sum(file.num_crowds[number] for number in self.categories)
        if not num_boxes and num_crowds:
            raise DataError(f'{file.path}: all {num_crowds:,} annotations of {first_few(self.spec.class_names)} have '
                            'iscrowd=1, which marks regions to ignore. There is no object for training or testing: '
                            'set iscrowd to 0 for single objects (some tools write 1 for every RLE mask)')
        if not num_boxes and file.num_skipped and file.consistency.num_relative == file.num_skipped:
            raise DataError(f'{file.path}: all numbers of its boxes are between 0 and 1. They seem to be fractions of '
                            'the image size: write x, y, width, height in pixels')
        if not num_boxes and file.num_skipped:
            raise DataError(f'{file.path}: none of its {len(file.images):,} images has a box of '
                            f'{first_few(self.spec.class_names)} that can be used. Boxes without area, outside of '
                            f'their image or marked "ignore": {file.num_skipped:,} (in '
                            f'{first_few(self._images_with_skipped())}). Write boxes in pixels of the images as they '
                            'are now')
        if not num_boxes:
            raise DataError(f'{file.path}: none of its {len(file.images):,} images has a box of '
                            f'{first_few(self.spec.class_names)}: label some, or set ann_file to the file with the '
                            'annotations')

    def _check_consistency(self, *, masks: bool) -> list[str]:
        """Refuses files whose fields contradict each other systematically. Returns lines for single contradictions."""
        lines = []
        for contradiction in self.file.consistency.contradictions():
            if contradiction.is_systematic and (masks or contradiction.concerns_boxes):
                raise DataError(f'{self.file.path}: {len(contradiction.ids):,} of '
                                f'{self.file.consistency.num_boxes:,} objects {contradiction}: {contradiction.advice}')
            lines.append(f'{self.spec.split}: {len(contradiction.ids):,} objects {contradiction}')
        return lines

    def _check_masks(self, *, evaluated: bool) -> None:
        """Refuses masks that make mmdet fail, or pycocotools if masks are evaluated."""
        path = self.file.path
        missing, misfit, partial, broken = (
            self.file.faulty_masks(kind, self.categories, trained_only=not evaluated)
            for kind in ('missing', 'misfit', 'partial', 'broken'))
        otherwise = 'or use a config without masks, such as faster-rcnn_vit-micro_nuclei'
        if missing:
            raise DataError(f'{path}: {len(missing):,} annotations have no segmentation (id {first_few(missing)}), but '
                            f'the config trains or tests masks: add the masks, {otherwise}')
        if misfit:
            raise DataError(f'{path}: {len(misfit):,} annotations have a segmentation that is not a mask of their '
                            f'image (id {first_few(misfit)}): expected a list of polygons [[x, y, ...], ...], or '
                            'RLE whose size is the height and width of the image and whose counts add up to all '
                            f'of its pixels. Correct or remove them, {otherwise}')
        if evaluated and (broken or partial):
            raise DataError(f'{path}: {len(broken + partial):,} annotations have polygons with fewer than three points '
                            'or an odd number of coordinates, or RLE without counts and size '
                            f'(id {first_few(broken + partial)}). The evaluation would fail: correct or remove them, '
                            f'{otherwise}')

    def _check_metric(self) -> None:
        for fault, ids in self.file.metric_faults.items():
            if fault != NO_ISCROWD or self.metric_reads_iscrowd:
                raise DataError(f'{self.file.path}: {len(ids):,} annotations have {fault} (id {first_few(ids)}). '
                                f'COCO\'s metric, which evaluates the {self.spec.split} set, requires integer ids, and '
                                '"iscrowd": 0 for objects that are not crowds: correct them')

    def _check_image_files(self) -> None:
        folder = self.spec.folder('img')
        if not os.path.isdir(folder):
            raise DataError(f'image folder {does_not_exist(folder)}: set data_prefix of the {self.spec.split} set, or '
                            'pass the folder of the data with --data-root DIR')
        missing = missing_files(self.images())
        if missing:
            raise DataError(f'{len(missing):,} of the {len(self.file.images):,} images in {self.file.path} do not '
                            f'exist ({first_few(missing)}): copy them there, correct file_name, or set data_prefix of '
                            f'the {self.spec.split} set')

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

    def _notes(self, *, masks: bool) -> list[str]:
        """Returns lines about annotations that are not errors. Refuses a set whose images are all filtered out."""
        file, categories = self.file, self.categories
        filters = (self.spec.option('filter_cfg') or {}) if self.spec.split == 'train' else {}
        min_size, drops_empty = filters.get('min_size', 0), filters.get('filter_empty_gt', False)
        annotated = set().union(*(file.annotated_images.get(number, set()) for number in categories))
        empty = file.images.keys() - annotated
        small = {number for number, image in file.images.items() if min(image.width, image.height) < min_size}
        if len(small | (empty if drops_empty else set())) == len(file.images):
            raise DataError(f'{file.path}: all images with annotations have a side below {min_size} pixels, and '
                            'training filters such images out: set min_size in filter_cfg of the train set, or use '
                            'larger images')
        others = self._other_boxes()
        unused = self._classes_without_boxes()
        broken, partial = (len(file.faulty_masks(kind, categories, trained_only=True)) * masks
                           for kind in ('broken', 'partial'))
        notes = [
            (len(empty), 'images without annotations' + self._use_of_empty_images(drops_empty)),
            (len(small), f'images with a side below {min_size} pixels, which training filters out'),
            (sum(file.num_crowds[number] for number in categories), 'boxes that mark crowds, which are ignored'),
            (file.num_skipped, 'annotations without area, outside their image or marked "ignore", which are skipped'),
            (file.num_out_of_bounds,
             'boxes that reach beyond their image, where they are clipped (expected bbox: x, y, width, height)'),
            (broken, 'annotations with polygons of fewer than three points or incomplete RLE, which are ignored'),
            (partial, 'annotations with some polygons of fewer than three points, which are dropped'),
            (file.has_id_zero * (self.spec.split != 'train'),
             "annotations with the id 0, which COCO's metric always counts as not detected (number them from 1)"),
            (sum(others.values()), 'boxes of classes that are not in the config, which are left out ('
             + first_few(f'{name}: {count:,}' for name, count in others.items()) + ')'),
            (len(unused), f'classes without a box ({first_few(unused)})')]
        return [f'{self.spec.split}: {note}: {count:,}' for count, note in notes if count]

    def _other_boxes(self) -> dict[str, int]:
        """Returns the number of boxes of each category that the config does not train or test."""
        categories = set(self.categories)
        return {name: self.file.num_boxes[number] for number, name in self.file.categories.items()
                if number not in categories}

    def _classes_without_boxes(self) -> list[str]:
        return [self.file.categories[number] for number in self.categories if not self.file.num_boxes[number]]

    def _images_with_skipped(self) -> list[str]:
        return [self.file.images[number].file_name for number in self.file.images_with_skipped]

    def label_warnings(self) -> list[str]:
        """Returns warnings about boxes that are not used, and about classes without a box in training."""
        file, split, warnings = self.file, self.spec.split, []
        if file.num_skipped:
            warnings.append(f'{split}: boxes without area, outside of their image or marked "ignore", which are not '
                            f'used: {file.num_skipped:,} (in {first_few(self._images_with_skipped())}). Correct or '
                            'remove them')
        others = self._other_boxes()
        if any(others.values()):
            counts = first_few(f'{name}: {count:,}' for name, count in others.items())
            warnings.append(f'{split}: boxes of classes that are not in the training set, which are not used: '
                            f'{sum(others.values()):,} ({counts}). Correct the class names'
                            f'{case_hint(file.categories.values())}')
        unused = self._classes_without_boxes()
        if unused and split == 'train':
            warnings.append(f'classes without a box in the training set, which cannot be learned: {len(unused)} of '
                            f'{len(self.categories)} ({first_few(unused)}). Label objects of them there, or remove the '
                            f'classes from all splits{case_hint(file.categories.values())}')
        return warnings

    def _use_of_empty_images(self, drops_empty: bool) -> str:
        """Returns a text about how training uses images without annotations; '' for other splits."""
        if self.spec.split != 'train':
            return ''
        if drops_empty:
            return ', which training filters out (filter_empty_gt)'
        droppers = sorted(set(filter(None, map(_drops_empty_images, self.spec.transforms()))))
        return f', which {" and ".join(droppers)} replaces by other images' if droppers else (
            ', which training uses as background')

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

    def _image_path(self, file_name: str) -> str:
        return os.path.join(self.spec.folder('img'), file_name)

    def images(self) -> list[str]:
        """Lists the paths of all images in the annotation file. Raises DataError if one is outside the data root."""
        paths = [self._image_path(image.file_name) for image in self.file.images.values()]
        outside = paths_outside(paths, [self.spec.root, self.spec.folder('img')])
        if outside and not os.environ.get(ALLOW_OUTSIDE):
            raise DataError(f'{self.spec.annotations}: {len(outside):,} of {len(paths):,} images are outside of the '
                            f'data root {self.spec.root} ({first_few(outside)}): correct file_name. If you trust the '
                            f'annotation file, set the environment variable {ALLOW_OUTSIDE}=1')
        return paths

    def stated_sizes(self) -> dict[str, tuple[float, float]]:
        """Returns the (width, height) that the annotation file states for each image path."""
        return {self._image_path(image.file_name): (image.width, image.height) for image in self.file.images.values()}

    @cached_property
    def _content(self) -> dict:
        return read_content(self.spec.annotations)

    def statistics(self, pixel_counts: np.ndarray) -> list[str]:
        """Counts boxes by class, by area and by fault."""
        file = self.file
        areas = [annotation['area'] for annotation in self._content.get('annotations', [])
                 if not annotation.get('iscrowd') and is_trained(annotation, file.images[annotation['image_id']])]
        faults: Counter[str] = Counter()
        for fault, ids in file.mask_faults.items():
            faults[fault.kind] += len(ids)
        num_without_mask = faults.pop('missing', 0)
        boxes = {name: file.num_boxes[number] for number, name in file.categories.items()}
        by_area = ', '.join(f'{sum(low <= area < high for area in areas):,} {name}'
                            for name, (low, high) in AREAS.items())
        num_empty = len(file.images) - len(set().union(*file.annotated_images.values()))
        return [f'{len(areas):,} boxes, {len(areas) / len(file.images):.1f} per image, {num_empty:,} images without '
                f'annotations; by area {by_area}',
                f'{file.num_skipped:,} skipped (no area, or outside their image), {file.num_crowds.total():,} crowds, '
                f'{file.num_out_of_bounds:,} reach beyond their image; {num_without_mask:,} without a mask, '
                f'{faults.total():,} broken masks',
                *frequency_table(boxes, 'boxes')]

    @cached_property
    def _objects(self) -> dict[str, list[dict]]:
        """Annotations of each image path."""
        paths = {image['id']: self._image_path(image_file(image) or '') for image in self._content['images']}
        objects: dict[str, list[dict]] = {path: [] for path in paths.values()}
        for annotation in self._content.get('annotations', []):
            objects[paths[annotation['image_id']]].append(annotation)
        return objects

    def class_counts(self, pixel_counts: np.ndarray) -> dict[str, int]:
        """Counts the boxes of each class that are trained on."""
        return {self.file.categories[number]: self.file.num_boxes[number] for number in self.categories}

    def objects(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yields the boxes of each image that mmdet trains on, without crowds."""
        labels = {number: label for label, number in enumerate(self.categories)}
        boxes: dict[Id, list[tuple[float, ...]]] = {number: [] for number in self.file.images}
        for annotation in self._content.get('annotations', []):
            label, image = labels.get(annotation['category_id']), annotation['image_id']
            if label is not None and not annotation.get('iscrowd') and is_trained(annotation, self.file.images[image]):
                boxes[image].append((*annotation['bbox'], label))
        for number, image in self.file.images.items():
            yield self._image_path(image.file_name), np.array(boxes[number], np.float32).reshape(-1, 5)

    @property
    def has_masks(self) -> bool:
        """True if every object that is trained on has a mask that can be used."""
        kinds = ('missing', 'misfit')
        return self.file.has_annotations and not any(
            self.file.faulty_masks(kind, self.categories, trained_only=True) for kind in kinds)

    def outlines(self, path: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yields the outlines of polygons, or of boxes if there are none."""
        for annotation in self._objects.get(path, []):
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
        return draw_objects(image, self._objects[path], names,
                            {number: colors.get(name, _NO_CLASS) for number, name in names.items()})


class LvisFormat(CocoFormat):
    """Boxes and masks of LVIS. Images may be named by URL, and annotations need no `iscrowd`."""

    dataset_types: ClassVar = {'LVISDataset': ('load_data_list', 'parse_data_info')}
    takes_urls = True
    metric_reads_iscrowd = False


_NO_CLASS = (128, 128, 128)  # color of categories that are not in the config
# Transforms of mmdet that drop images without objects by default, and the setting with which they keep them. Despite
# its name, keep_empty=True of FilterAnnotations drops such images.
_DROPPERS = {'FilterAnnotations': ('keep_empty', False), 'RandomCrop': ('allow_negative_crop', True)}


def _drops_empty_images(step: dict) -> str:
    """Returns the name of a transform that drops images without objects, with the setting that keeps them, or ''."""
    name = str(step.get('type')).split('.')[-1]
    setting, keeps = _DROPPERS.get(name, ('', True))
    return f'{name} (without {setting}={keeps})' if setting and step.get(setting, not keeps) != keeps else ''


def _labels_shown(dataset: BaseDataset, index: int) -> set[int]:
    return {instance['bbox_label'] for instance in dataset.get_data_info(index)['instances']
            if not instance['ignore_flag']}
