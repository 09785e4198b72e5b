"""Fingerprint of a data set: the facts on which a plan depends, measured once and cached."""
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from mae_backbone.data.decode import BadImageError
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.label_map_files import label_colors
from mae_backbone.formats.label_maps import LabelMaps
from mae_backbone.planning.duplicates import Pair, across, equal_files, pairs_in, similar_pairs
from mae_backbone.planning.image_scan import (
    ImageHeader,
    PixelSample,
    read_digests,
    read_headers,
    read_pixels,
    read_thumbnails,
    stamps,
)
from mae_backbone.planning.object_statistics import ObjectStatistics, measure_objects, percentiles
from mae_backbone.planning.own_data import OwnData, unlabeled_images
from mae_backbone.planning.scan_cache import Progress, ScanCache, no_progress
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.cpu import available_cpus
from mae_backbone.utils.printable import printable

# Number of evenly spaced images whose pixels are measured. The mean of one photograph differs from the mean of its data
# set by about 0.6 standard deviations, the mean of 256 by 0.6 / sqrt(256).
NUM_PIXELS = 256
NUM_THUMBNAILS = 20_000   # number of images that are compared with each other, evenly spaced in each split
NUM_LABEL_MAPS = 500      # number of label maps that are read, evenly spaced
_NUM_EXAMPLES = 5
UNLABELED = 'unlabeled'   # name of the split of images without labels
_LABEL_PIXELS = 'label pixels'  # name of the measurement in the cache


@dataclass(frozen=True)
class Fingerprint:
    """Facts about a data set on which a plan depends.

    Sizes are in pixels of the images as they are read, after EXIF orientation.

    Attributes:
        root: absolute path of the data.
        task: 'pretraining', 'detection', 'segmentation' or 'classification'.
        images: number of readable images by split. The split 'unlabeled' has the images without labels.
        unreadable: number of files that cannot be read.
        classes: names of the classes in the order of the labels.
        class_counts: for each class, number of objects (detection), pixels (segmentation) or images (classification) in
            the training set, in the order of `classes`.
        class_images: for each class, fraction of the labeled images that show it, in the order of `classes`.
        width, height, short_side, long_side: percentiles over the images of the training set.
        channels, bits: most frequent number of channels, and of bits per channel.
        reader: name of the reader of bands (`planning.bands`); '' for gray and color images.
        mixed: number of images with other channels or bits than the most frequent ones.
        mean, std: mean and standard deviation of each channel over the sampled images.
        gray: True if all channels of each sampled image are equal.
        flat: fraction of patches of 8 x 8 pixels without contrast.
        border: fraction of the area of an image that is a border of a single value, median over the sampled images.
        exposure: standard deviation of the medians of the sampled images, divided by their mean.
        value_range: 0.5th and 99.5th percentile of the values, median over the sampled images.
        scaled: for images of more than 8 bits, mean and standard deviation of each channel after scaling to 0..255: by
            'value_range', or by the 'percentiles' of each image.
        num_sampled: number of images with measured pixels.
        equal_images: number of files that are copies of another file.
        similar_images: number of images among `num_compared` that look like another image.
        num_compared: number of images that were compared with each other.
        leaks: number of validation images that are also in the training set, as equal files or as similar images.
        num_labeled: number of training images that have labels.
        foreground: for segmentation, fraction of the pixels of an image that are not of the most frequent class, median
            over the label maps that were read.
        objects: for detection, sizes and numbers of the objects.
        notes: examples and warnings, as sentences.
    """

    root: str
    task: str
    images: dict[str, int]
    unreadable: int = 0
    classes: list[str] = field(default_factory=list)
    class_counts: list[int] = field(default_factory=list)
    class_images: list[float] = field(default_factory=list)
    width: dict[str, float] = field(default_factory=dict)
    height: dict[str, float] = field(default_factory=dict)
    short_side: dict[str, float] = field(default_factory=dict)
    long_side: dict[str, float] = field(default_factory=dict)
    channels: int = 3
    bits: int = 8
    reader: str = ''
    mixed: int = 0
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    gray: bool = False
    flat: float = 0.0
    border: float = 0.0
    exposure: float = 0.0
    value_range: list[float] = field(default_factory=list)
    scaled: dict[str, list[list[float]]] = field(default_factory=dict)
    num_sampled: int = 0
    equal_images: int = 0
    similar_images: int = 0
    num_compared: int = 0
    leaks: int = 0
    num_labeled: int = 0
    foreground: float = 0.0
    objects: ObjectStatistics | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def num_train(self) -> int:
        """Number of readable images of the training set."""
        return self.images.get('train', 0)

    @property
    def num_pretraining(self) -> int:
        """Number of images for pretraining: the training set and the images without labels."""
        return self.num_train + self.images.get(UNLABELED, 0)

    @property
    def imbalance(self) -> float:
        """Count of the most frequent class divided by the count of the rarest class that occurs; 1 without classes."""
        counts = [count for count in self.class_counts if count]
        return max(counts) / min(counts) if counts else 1.0

    def to_json(self) -> str:
        """Returns the fingerprint as JSON, for `from_json`."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> 'Fingerprint':
        """Returns the fingerprint in the JSON that `to_json` returned.

        Raises:
            ValueError: the text is not JSON, or not the JSON of a fingerprint.
        """
        content = json.loads(text)
        names = {entry.name for entry in fields(cls)}
        if not isinstance(content, dict) or not content.keys() <= names:
            raise ValueError('expected the JSON of a fingerprint, as `mae-backbone plan` writes it')
        objects = content.pop('objects', None)
        return cls(**content, objects=ObjectStatistics(**objects) if objects else None)


def take_fingerprint(data: OwnData, *, unlabeled: str | os.PathLike | None = None, workers: int | None = None,
                     progress: Progress = no_progress) -> Fingerprint:
    """Measures a data set. Measurements of files that have not changed are taken from the cache.

    Reads the headers of all images, the pixels of `NUM_PIXELS` images and the thumbnails of `NUM_THUMBNAILS` images,
    and compares the content of files of equal size.

    Args:
        data: result of `find_data`.
        unlabeled: folder of further images without labels.
        workers: number of threads; None for the number of CPUs.
        progress: called with the name of the measurement, the number of files done and the total number.

    Raises:
        DataError: labels cannot be read, or no training image.
        FileNotFoundError, ValueError: `unlabeled` has no images.
    """
    workers = workers or available_cpus()
    paths = {split: data.image_paths(split) for split in data.splits}
    if unlabeled is not None:
        known = {path for split in paths.values() for path in split}
        paths[UNLABELED] = [path for path in unlabeled_images(unlabeled) if path not in known]
    cache = ScanCache('\n'.join([data.root, *([os.path.abspath(unlabeled)] if unlabeled is not None else [])]))
    try:
        return _Measurement(data, paths, cache, workers, progress).fingerprint()
    finally:
        cache.close()


class _Measurement:
    """One run of `take_fingerprint`."""

    def __init__(self, data: OwnData, paths: dict[str, list[str]], cache: ScanCache, workers: int,
                 progress: Progress) -> None:
        self.data, self.cache, self.workers, self.progress = data, cache, workers, progress
        self.options: dict[str, Any] = dict(workers=workers, progress=progress)
        self.splits = [split for split, names in paths.items() for _ in names]
        self.stamps = stamps([path for names in paths.values() for path in names])
        self.notes = list(data.notes)

    def fingerprint(self) -> Fingerprint:
        headers = read_headers(self.cache, self.stamps, **self.options)
        errors = [header.error for header in headers if header.error]
        if errors:
            self.notes.append(f'{len(errors):,} files cannot be read: '
                              + '; '.join(printable(error) for error in errors[:_NUM_EXAMPLES]))
        kept = [index for index, header in enumerate(headers) if not header.error]
        split_counts = Counter(self.splits[index] for index in kept)
        trained = [index for index in kept if self.splits[index] in ('train', UNLABELED)]
        if not trained:
            raise DataError(f'{self.data.root}: none of the {len(headers):,} images can be read for the training: '
                            f'{"; ".join(printable(error) for error in errors[:_NUM_EXAMPLES])}. Replace these files')
        labeled = [index for index in trained if self.splits[index] == 'train'] or trained
        self.headers = headers
        content: dict[str, Any] = dict(
            root=self.data.root, task=self.data.task, unreadable=len(errors), classes=list(self.data.classes),
            reader=str((self.data.reader or {}).get('type', '')).rpartition('.')[2],
            images={split: split_counts.get(split, 0) for split in dict.fromkeys(self.splits)})
        content |= self._sizes([headers[index] for index in labeled])
        content |= self._pixels(labeled, bits=content['bits'])
        content |= self._duplicates(kept)
        content |= self._labels(len(labeled))
        return Fingerprint(**content, notes=self.notes)

    # ---- images

    def _sizes(self, headers: Sequence[ImageHeader]) -> dict[str, Any]:
        sizes = np.array([(header.width, header.height) for header in headers], np.int64)
        kinds = Counter((header.channels, header.bits) for header in headers)
        (channels, bits), count = kinds.most_common(1)[0]
        if len(kinds) > 1:
            self.notes.append('images of several kinds: ' + ', '.join(
                f'{number:,} with {kind[0]} channels of {kind[1]} bits' for kind, number in kinds.most_common(4)))
        return dict(width=percentiles(sizes[:, 0]), height=percentiles(sizes[:, 1]),
                    short_side=percentiles(sizes.min(axis=1)), long_side=percentiles(sizes.max(axis=1)),
                    channels=channels, bits=bits, mixed=len(headers) - count)

    def _pixels(self, indices: Sequence[int], *, bits: int) -> dict[str, Any]:
        chosen = [self.stamps[index] for index in _evenly(indices, NUM_PIXELS)]
        samples = read_pixels(self.cache, chosen, **self.options)
        if not samples:
            raise DataError(f'{self.data.root}: none of {len(chosen):,} sampled images can be decoded, such as '
                            f'{printable(chosen[0].path)}: copy the images again')
        if len(samples) < len(chosen):
            self.notes.append(f'{len(chosen) - len(samples)} of {len(chosen)} sampled images cannot be decoded: '
                              '`mae-backbone check` names them')
        return summarize_pixels(samples, bits=bits)

    def _duplicates(self, kept: Sequence[int]) -> dict[str, Any]:
        groups = self._equal_files(kept)
        exact = pairs_in(groups)
        compared = self._compared(kept)
        thumbnails = read_thumbnails(self.cache, [self.stamps[index] for index in compared], **self.options)
        near = [Pair(compared[first], compared[second]) for first, second in similar_pairs(thumbnails)]
        leaked: dict[int, int] = {}
        for pair in [*_all_pairs(groups), *near]:
            for one, other in (pair, pair[::-1]):
                if self.splits[one] == 'val' and self.splits[other] == 'train':
                    leaked.setdefault(one, other)
        if exact:
            self._name_pairs(f'{len(exact):,} files are copies of another file', exact)
        if near:
            self._name_pairs(f'{len({pair.second for pair in near}):,} of {len(compared):,} compared images look '
                             'like another image', near)
        if leaked:
            pairs = [Pair(val, train) for val, train in leaked.items()]
            verb = 's are' if len(leaked) > 1 else ' is'
            self._name_pairs(f'{len(leaked):,} validation image{verb} equal or similar to a training image: results '
                             'are too good', across(pairs, self.splits))
        return dict(equal_images=len(exact), similar_images=len({pair.second for pair in near}),
                    num_compared=len(compared), leaks=len(leaked))

    def _equal_files(self, kept: Sequence[int]) -> list[list[int]]:
        """Returns groups of indices of equal files. Only files with equal size and first bytes are read completely."""
        candidates: dict[tuple[int, str], list[int]] = defaultdict(list)
        for index in kept:
            header = self.headers[index]
            candidates[header.bytes, header.digest].append(index)
        same = [index for group in candidates.values() if len(group) > 1 for index in group]
        digests = read_digests(self.cache, [self.stamps[index] for index in same], **self.options) if same else []
        groups = equal_files([self.headers[index].bytes for index in same], digests)
        return [[same[index] for index in group] for group in groups]

    def _compared(self, kept: Sequence[int]) -> list[int]:
        """Returns the indices of the images to compare, at most `NUM_THUMBNAILS`.

        Validation images are chosen first (up to half of the number), because copies of training images among them make
        results too good.
        """
        validation = [index for index in kept if self.splits[index] == 'val']
        others = [index for index in kept if self.splits[index] != 'val']
        chosen = _evenly(validation, NUM_THUMBNAILS // 2)
        return sorted([*chosen, *_evenly(others, NUM_THUMBNAILS - len(chosen))])

    def _name_pairs(self, text: str, pairs: Sequence[Pair]) -> None:
        names = [[os.path.relpath(self.stamps[index].path, self.data.root) for index in pair]
                 for pair in pairs[:3]]
        self.notes.append(f'{text} (such as ' + '; '.join(
            printable(f'{first} and {second}') for first, second in names) + ')')

    # ---- labels

    def _labels(self, num_train: int) -> dict[str, Any]:
        data_format = self.data.splits['train']
        if self.data.task == 'pretraining':
            return dict(num_labeled=0)
        if self.data.task == 'segmentation' and isinstance(data_format, LabelMaps):
            return dict(num_labeled=num_train) | self._label_maps(data_format)
        content: dict[str, Any] = dict(num_labeled=num_train)
        if self.data.task == 'detection':
            by_path = {header.path: (header.width, header.height) for header in self.headers if not header.error}
            boxes = [(boxes, by_path[path]) for path, boxes in _absolute(data_format.objects()) if path in by_path]
            content['num_labeled'] = sum(len(rows) > 0 for rows, _ in boxes)
            content['objects'] = measure_objects(boxes, has_masks=data_format.has_masks)
            showing = Counter(label for rows, _ in boxes for label in set(rows[:, 4].astype(int).tolist()))
            content['class_images'] = [round(showing[label] / max(1, content['num_labeled']), 6)
                                       for label in range(len(self.data.classes))]
        counts = data_format.class_counts(np.zeros(256, np.int64))
        content['class_counts'] = [counts.get(name, 0) for name in self.data.classes]
        if self.data.task == 'classification':
            total = max(1, sum(content['class_counts']))
            content['class_images'] = [round(count / total, 6) for count in content['class_counts']]
        return content

    def _label_maps(self, data_format: LabelMaps) -> dict[str, Any]:
        files = stamps(_evenly(data_format.label_maps(), NUM_LABEL_MAPS))

        def count(path: str) -> list:
            try:
                return data_format.count_pixels(path).tolist()
            except (BadImageError, OSError, ValueError):
                return []
        # The counts depend on the colors in classes.txt, which may change while the label maps do not.
        colors = hashlib.sha256(repr(label_colors(data_format.spec)).encode()).hexdigest()[:16]
        rows = self.cache.measure(f'{_LABEL_PIXELS} 2:{colors}', files, count, workers=self.workers,
                                  progress=self.progress)
        pixels = np.array([row for row in rows if row], np.int64).reshape(-1, 256)
        counts = data_format.class_counts(pixels.sum(axis=0))
        class_counts = [counts.get(name, 0) for name in self.data.classes]
        first = int(bool(data_format.spec.option('reduce_zero_label')))
        of_classes = pixels[:, first:first + len(self.data.classes)]
        labeled = of_classes[of_classes.any(axis=1)]
        shares = labeled / labeled.sum(axis=1, keepdims=True)
        largest = int(np.argmax(class_counts)) if class_counts else 0
        return dict(class_counts=class_counts,
                    class_images=(of_classes > 0).mean(axis=0).round(6).tolist() if len(of_classes) else [],
                    foreground=round(float(1 - np.median(shares[:, largest])), 4) if len(shares) else 0.0)


def summarize_pixels(samples: Sequence[PixelSample], *, bits: int) -> dict[str, Any]:
    """Returns statistics over the sampled images as arguments of `Fingerprint`. Each image has the same weight.

    Only images with the most frequent number of channels are used.
    """
    if not samples:
        return dict(num_sampled=0)
    channels = Counter(len(sample.mean) for sample in samples).most_common(1)[0][0]
    samples = [sample for sample in samples if len(sample.mean) == channels]
    mean, std = _mean_and_std([sample.mean for sample in samples], [sample.square for sample in samples])
    value_range = [float(np.median([sample.low for sample in samples])),
                   float(np.median([sample.high for sample in samples]))]
    scaled = {'value_range': _scaled(samples, [value_range] * len(samples)),
              'percentiles': _scaled(samples, [[sample.low, sample.high] for sample in samples])}
    medians = np.array([sample.median for sample in samples])
    return dict(
        mean=mean, std=std, scaled=scaled if bits > 8 else {},
        gray=all(sample.gray for sample in samples), flat=round(float(np.mean([s.flat for s in samples])), 4),
        border=round(float(np.median([sample.border for sample in samples])), 4),
        exposure=round(float(medians.std() / max(medians.mean(), 1e-6)), 4),
        value_range=[round(value, 2) for value in value_range], num_sampled=len(samples))


def _mean_and_std(means: Sequence[np.ndarray], squares: Sequence[np.ndarray]) -> list[list[float]]:
    mean = np.mean(means, axis=0)
    std = np.sqrt(np.maximum(np.mean(squares, axis=0) - mean ** 2, 0))
    return [mean.round(2).tolist(), std.round(2).tolist()]


def _scaled(samples: Sequence[PixelSample], ranges: Sequence[Sequence[float]]) -> list[list[float]]:
    """Returns mean and standard deviation of clipped images after scaling the range of each image to 0..255."""
    means, squares = [], []
    for sample, (low, high) in zip(samples, ranges, strict=True):
        factor = 255 / max(high - low, 1.0)
        means.append((sample.clipped_mean - low) * factor)
        squares.append((sample.clipped_square - 2 * low * sample.clipped_mean + low ** 2) * factor ** 2)
    return _mean_and_std(means, squares)


def _all_pairs(groups: Sequence[Sequence[int]]) -> list[Pair]:
    """Returns pairs of each file of a group with the first and the last file of the group.

    Files are sorted by split. Therefore these pairs connect each validation file with a training file, if the group has
    one.
    """
    return [Pair(other, end) for group in groups for other in group for end in {*group[:1], *group[-1:]}
            if other != end]


def _evenly(items: Sequence[Any], count: int) -> list[Any]:
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _absolute(objects: Iterable[tuple[str, np.ndarray]]) -> Iterable[tuple[str, np.ndarray]]:
    return ((os.path.abspath(path), boxes) for path, boxes in objects)


def save_fingerprint(fingerprint: Fingerprint, path: str | Path) -> None:
    """Writes a fingerprint as JSON."""
    write_text(path, fingerprint.to_json() + '\n')
