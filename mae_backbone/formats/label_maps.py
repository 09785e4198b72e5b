"""Format of label maps of the data sets of mmseg: image files with the label of a class in each pixel."""
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from importlib import import_module
from typing import ClassVar

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset

from mae_backbone.data.label_colors import IGNORED
from mae_backbone.formats.classes_txt import ClassFile, read_classes
from mae_backbone.formats.data_format import ClassNames, DataFormat
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec, dicts_in
from mae_backbone.formats.drawing import draw_label_map
from mae_backbone.formats.exif_orientation import label_outline
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.label_map_files import (
    LabelMapSummary,
    Reader,
    image_label_pairs,
    label_colors,
    label_map_reader,
    read_labels,
    summarize,
)
from mae_backbone.formats.label_map_palettes import check_palettes
from mae_backbone.formats.messages import first_few
from mae_backbone.formats.subset import subset_by_indices
from mae_backbone.formats.tables import frequency_table
from mae_backbone.utils.palette import palette

NUM_INSPECTED = 500  # number of label maps per split that are read before a run starts, evenly spaced in the list
_TOO_MANY_CLASSES = ('{} has {} classes, expected at most {}: mmseg reads label maps with 8 bits per pixel, so that '
                     'larger labels would turn into labels of other classes. Merge or drop classes')


class LabelMaps(DataFormat):
    """Images and label maps of mmseg's BaseSegDataset and its subclasses, such as ADE20KDataset."""

    dataset_types: ClassVar = {'BaseSegDataset': ('load_data_list',), 'ListedSegDataset': ('load_data_list',)}

    # ---- classes

    @property
    def class_file(self) -> str:
        """Path of classes.txt: in the folder of the list of pairs, or in the root. The file may not exist."""
        listed = os.path.join(os.path.dirname(self.spec.annotations), 'classes.txt')
        if self.spec.cls and self.spec.cls.__name__ == 'ListedSegDataset' and os.path.isfile(listed):
            return listed
        return os.path.join(self.spec.root, 'classes.txt')

    @cached_property
    def _class_file_content(self) -> ClassFile | None:
        if not os.path.isfile(self.class_file):
            return None
        content = read_classes(self.class_file)
        if len(content.names) > IGNORED:  # checked before the config is adapted, which takes minutes for 200,000 names
            raise DataError(_TOO_MANY_CLASSES.format(self.class_file, len(content.names), IGNORED))
        return content

    def classes(self) -> ClassNames:
        """Returns the names in classes.txt; if there is no such file, the names in the config."""
        class_file = self._class_file_content
        return ClassNames(class_file.names, self.class_file) if class_file else (
            ClassNames(self.spec.class_names, 'the config'))

    def set_classes(self, names: list[str]) -> list[str]:
        """Writes class names, and the colors in classes.txt, into the config of the data set."""
        spec, class_file, lines = self.spec, self._class_file_content, []
        metainfo = spec.cfg.get('metainfo') or {}
        if spec.class_names != names or isinstance(metainfo.get('classes'), str):
            spec.cfg.metainfo = ConfigDict(metainfo, classes=tuple(names), palette=palette(len(names)))
            # Without classes.txt, the config selects some of the predefined classes, and mmseg maps their labels.
            if spec.default_class_names and class_file:
                lines.append(self._take_any_classes())
        elif metainfo.get('classes') and not metainfo.get('palette'):
            spec.cfg.metainfo = ConfigDict(metainfo, palette=palette(len(names)))
        if class_file and class_file.colors:
            lines.append(self._read_by_colors(class_file))
        return lines

    def _take_any_classes(self) -> str:
        """Replaces a data set type with predefined classes, such as ADE20KDataset, by BaseSegDataset."""
        name = self.spec.type_name
        options = {key: self.spec.option(key) for key in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')}
        self.spec.cfg.update(options, type='mmseg.BaseSegDataset')
        return f'{name} becomes BaseSegDataset, which takes any classes, with {options}'

    def _read_by_colors(self, class_file: ClassFile) -> str:
        """Changes the pipeline so that it reads label maps by the colors in classes.txt."""
        import_module('mae_backbone.segmentation')  # registers mae_backbone.LoadAnnotations
        self.spec.cfg.metainfo = ConfigDict(self.spec.cfg.get('metainfo') or {}, classes=tuple(self.spec.class_names),
                                            palette=class_file.colors)
        for step in dicts_in(self.spec.option('pipeline')):
            if str(step.get('type')).endswith('LoadAnnotations'):
                step.update(type='mae_backbone.LoadAnnotations', palette=class_file.colors, ignored=class_file.ignored)
        return f'label maps in colors are read by the colors in {self.class_file}'

    # ---- checks

    def check(self, *, masks: bool, labels: bool) -> list[str]:
        """Refuses label maps that do not fit the images or the classes. Reads at most `NUM_INSPECTED` of them."""
        if not labels:
            return super().check(masks=masks, labels=labels)
        self.check_root()
        self._check_config()
        _, rotated = self.read_image_sizes()
        valid, summaries = ValidLabels(self.spec), self._summaries()
        self._refuse(summaries, lambda summary: summary.fault, 'cannot be read as one number per pixel',
                     'save them as 8-bit PNG with one channel that holds the label of the class, or write the colors '
                     'of the classes into classes.txt, as #rrggbb after each name')
        self._refuse(summaries, lambda summary: summary.unknown_colors, 'have colors that no class has',
                     'add them to classes.txt (with the name - for pixels of no class), or correct the maps, which '
                     'must not be smoothed or saved as JPEG')
        colors = [color for group in label_colors(self.spec) or () for color in group]
        check_palettes(((summary.path, summary.palette) for summary in summaries), colors)
        self._refuse(summaries, lambda summary: summary.size_mismatch, 'have another size than their image',
                     'resize each label map to the size of its image, without smoothing (nearest neighbor)')
        self._refuse(summaries, lambda summary: first_few(sorted(summary.labels - valid.all)),
                     f'have labels outside of {valid}', 'map the labels to these numbers' + valid.hint(summaries))
        return self._lines(summaries, valid) + rotated

    def _summaries(self) -> list[LabelMapSummary]:
        images, maps = zip(*evenly_spaced(self._pairs, NUM_INSPECTED), strict=True)
        with ThreadPoolExecutor(8) as pool:
            ignored = {IGNORED, *([0] if self.spec.option('reduce_zero_label') else [])}
            return list(pool.map(partial(summarize, self._reader, ignored, reading=self.reading), images, maps))

    def _check_config(self) -> None:
        """Refuses settings with which mmseg would fail during a run, or would read wrong labels."""
        spec = self.spec
        if not spec.class_names:
            raise DataError(f'the classes of {spec.root} have no names: write them into {spec.root}/classes.txt, one '
                            'per line, the first for label 0')
        count = len(spec.default_class_names or spec.class_names)
        limit = IGNORED - bool(spec.option('reduce_zero_label'))
        if count > limit:  # LoadAnnotations casts labels to 8 bits; 255 marks pixels of no class.
            raise DataError(_TOO_MANY_CLASSES.format(spec.root, count, limit))
        settings = {step['reduce_zero_label'] for step in dicts_in(spec.option('pipeline'))
                    if step.get('reduce_zero_label') is not None}
        if settings - {spec.option('reduce_zero_label')}:
            raise DataError(f'the {spec.split} set has reduce_zero_label={spec.option("reduce_zero_label")}, but '
                            f'LoadAnnotations in its pipeline has {first_few(settings)}: remove it from '
                            'LoadAnnotations')

    def _refuse(self, summaries: list[LabelMapSummary], fault_of: Callable[[LabelMapSummary], str], what: str,
                advice: str) -> None:
        faults = [f'{summary.path}: {fault}' for summary in summaries if (fault := fault_of(summary))]
        if faults:
            raise DataError(f'{self.spec.split}: {len(faults):,} of {len(summaries):,} inspected label maps {what} '
                            f'({"; ".join(faults[:3])}): {advice}')

    def _lines(self, summaries: list[LabelMapSummary], valid: 'ValidLabels') -> list[str]:
        split, names, present = self.spec.split, valid.names, valid.present(summaries)
        absent = [name for label, name in enumerate(names, start=valid.first) if label not in present]
        if split == 'train' and len(names) == 1:  # the softmax of one logit is 1: the loss is 0 in every step
            raise DataError(f'the label maps of training have the single class {names[0]}, and a segmenter needs two '
                            'or more: give the other pixels their own label, and write its name, such as background, '
                            'into classes.txt')
        if split == 'train' and len(absent) >= len(names) - 1:
            raise DataError(f'the {len(summaries):,} inspected label maps of training contain only {sorted(present)}, '
                            f'but training needs pixels of at least two classes: expected the labels {valid}; in masks '
                            'of 0 and 255, replace 255 by 1')
        if len(absent) == len(names):
            raise DataError(f'{split}: the {len(summaries):,} inspected label maps contain only {sorted(present)}, so '
                            f'that no pixel can be evaluated: expected the labels {valid}. Label pixels of the classes')
        if split == 'train' and len(summaries) == len(self._pairs):
            _check_ignored(summaries, valid, absent)
        ignored = float(np.mean([summary.ignored for summary in summaries]))
        lines = [f'{split}: {len(self._pairs):,} images with label maps of {len(names)} classes, {len(summaries):,} '
                 f'inspected, {ignored:.1%} of the pixels ignored']
        if absent:
            lines.append(f'{split}: classes without a pixel ({first_few(absent)}): {len(absent)}')
        if valid.first and 0 in present and len(names) not in present:
            lines.append(f'{split}: label 0 is ignored (reduce_zero_label=True), and no pixel has label {len(names)}: '
                         f'if 0 is {names[0]}, set reduce_zero_label=False in all data sets, and remove it from '
                         'LoadAnnotations')
        return lines + self.unused_images(len(self._pairs))

    # ---- a part of the labels

    def subset(self, fraction: float, seed: int) -> str:
        """Keeps the label maps of a fraction of the images."""
        loading = [step for step in self.spec.option('pipeline') or []
                   if str(step.get('type')).endswith('LoadAnnotations')]
        return subset_by_indices(self.spec, _labels_shown, fraction, seed, pipeline=loading)

    # ---- survey

    @cached_property
    def _pairs(self) -> list[tuple[str, str]]:
        return image_label_pairs(self.spec)

    @cached_property
    def _map_of_image(self) -> dict[str, str]:
        return dict(self._pairs)

    @cached_property
    def _reader(self) -> Reader:
        return label_map_reader(self.spec)

    def images(self) -> list[str]:
        """Lists the paths of all images."""
        return [image for image, _ in self._pairs]

    def label_maps(self) -> list[str]:
        """Lists the paths of all label maps."""
        return [path for _, path in self._pairs]

    def count_pixels(self, path: str) -> np.ndarray:
        """Counts the pixels of each label in a label map: (256,) int64."""
        return np.bincount(read_labels(path, self._reader).ravel(), minlength=IGNORED + 1)

    def statistics(self, pixel_counts: np.ndarray) -> list[str]:
        """Counts the pixels of each class, and suggests class weights."""
        names, first = self.spec.class_names, bool(self.spec.option('reduce_zero_label'))
        by_label = dict(enumerate(names, start=first)) | {IGNORED: '(no class)'}
        counts = {by_label.get(label, f'label {label}, of no class'): int(count)
                  for label, count in enumerate(pixel_counts) if count}
        lines = frequency_table(dict.fromkeys(names, 0) | counts, 'pixels')
        of_classes = pixel_counts[first:first + len(names)]
        if self.spec.split == 'train' and of_classes.any():
            weights = ', '.join(f'{weight:.2f}' if weight >= 0.1 else f'{weight:.2g}'
                                for weight in class_weights(of_classes))
            lines.append(f'class_weight for loss_decode, if rare classes matter as much as frequent ones: [{weights}]')
        return lines

    def class_counts(self, pixel_counts: np.ndarray) -> dict[str, int]:
        """Counts the pixels of each class."""
        names, first = self.spec.class_names, int(bool(self.spec.option('reduce_zero_label')))
        return dict(zip(names, pixel_counts[first:first + len(names)].tolist(), strict=True))

    def outlines(self, path: str, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """Yields the borders between the labels of an image."""
        yield label_outline(read_labels(self._map_of_image[path], self._reader))

    def draw(self, image: np.ndarray, path: str) -> np.ndarray:
        """Blends the colors of the classes into the image, and writes their names."""
        labels = read_labels(self._map_of_image[path], self._reader)
        if labels.shape != image.shape[:2]:
            return image
        names, first = self.spec.class_names, bool(self.spec.option('reduce_zero_label'))
        colors = np.zeros((max(IGNORED + 1, first + len(names)), 3), np.uint8)
        colors[first:first + len(names)] = list(self.colors().values())
        return draw_label_map(image, labels, dict(enumerate(names, start=first)), colors)


def _check_ignored(summaries: list[LabelMapSummary], valid: 'ValidLabels', absent: list[str]) -> None:
    """Refuses label maps in which the label 255 seems to be a class, because it marks pixels that belong to no class.

    Args:
        summaries: summaries of all label maps of training.
        valid: labels that the maps may have.
        absent: names of the classes without a pixel.
    """
    advice = 'give the class its own number in all label maps'
    with_255 = [summary for summary in summaries if IGNORED in summary.labels]
    # With reduce_zero_label and label 0 present, the last class may be absent because reduce_zero_label is wrong.
    shifted = valid.first and 0 in valid.present(summaries)
    if with_255 and absent == valid.names[-1:] and not shifted:
        raise DataError(f'no label map of training has label {len(valid.names) - 1 + valid.first} ({absent[0]}), but '
                        f'{len(with_255)} of {len(summaries)} have 255, which marks pixels of no class: if 255 stands '
                        f'for {absent[0]}, {advice}. If it does not, remove {absent[0]} from classes.txt: nothing can '
                        'be learned about it')
    for label, name in enumerate(valid.names, start=valid.first):
        with_class = [summary for summary in summaries if label in summary.labels]
        exclusive = not any(IGNORED in summary.labels for summary in with_class)
        covering = len(with_class) + len(with_255) == len(summaries) or len(valid.names) == 2
        # A rare class may be absent from the label maps with 255 by chance. It is suspicious only if it is the only
        # absent class.
        others = {*range(valid.first, valid.first + len(valid.names))} - {label}
        only_absent = others <= valid.present(with_255)
        if with_255 and with_class and exclusive and covering and only_absent:
            raise DataError(f'{len(with_class)} label maps of training have label {label} ({name}) and no 255, and '
                            f'{len(with_255)} have 255 and no label {label} (such as {with_255[0].path}): 255, which '
                            f'marks pixels of no class, seems to stand for {name} there: {advice}')


class ValidLabels:
    """Labels that the label maps of a data set may have.

    Attributes:
        names: class names in the order of the labels.
        first: label of the first class, 1 with `reduce_zero_label`.
        ignored: label of pixels of no class.
        all: labels of the classes, 0, and `ignored`.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        # If a config selects some of the predefined classes, the label maps still have the labels of all of them.
        self.names = spec.default_class_names or spec.class_names
        self.first = int(bool(spec.option('reduce_zero_label')))
        self.ignored = int(spec.option('ignore_index'))
        self.all = {*range(len(self.names) + self.first), self.ignored}

    def __str__(self) -> str:
        zero = ' (0 is ignored: reduce_zero_label=True)' if self.first else ''
        return f'0..{len(self.names) - 1 + self.first}{zero} and {self.ignored} (ignored)'

    def present(self, summaries: Iterable[LabelMapSummary]) -> set[int]:
        """Returns the labels that occur in at least one of the label maps."""
        return set().union(*(summary.labels for summary in summaries))

    def hint(self, summaries: Iterable[LabelMapSummary]) -> str:
        """Returns additional advice, which names the most common mistake if the labels indicate it."""
        advice = ', or add the missing classes to classes.txt'
        if not self.first and self.present(summaries) - self.all == {len(self.names)}:
            advice += '; if 0 marks pixels of no class, set reduce_zero_label=True in the data sets'
        return advice


def class_weights(pixels: np.ndarray) -> list[float]:
    """Returns a weight for each class from its number of pixels (C,): sqrt(median frequency / frequency).

    The weight of a class without pixels is 1. This is median frequency balancing (Eigen & Fergus, ICCV 2015), except
    that frequencies are relative to all pixels instead of the pixels of images that show the class. The square root
    makes the weights less extreme and is our choice.
    """
    frequencies = pixels / max(1, pixels.sum())
    median = np.median(frequencies[frequencies > 0]) if frequencies.any() else 0.0
    return [float(np.sqrt(median / frequency)) if frequency else 1.0 for frequency in frequencies]


def _labels_shown(dataset: BaseDataset, index: int) -> set[int]:
    return set(np.unique(dataset[index]['gt_seg_map']).tolist())
