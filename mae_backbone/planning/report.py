"""A look through all images of a labeled set: sizes, classes, small and large objects, errors, and some drawn."""
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_rle

from mae_backbone.data.decode import BadImageError, read_image
from mae_backbone.data.label_colors import IGNORED, UnknownColorError
from mae_backbone.data.labeled import open_labeled
from mae_backbone.formats.coco import image_file, is_used, mask_fault, read_coco
from mae_backbone.formats.dataset_spec import DataError, Source, evenly, some
from mae_backbone.formats.label_maps import UNREADABLE, fault_of, pairs_of, reader_of
from mae_backbone.planning.adapt_config import palette
from mae_backbone.utils.image_grid import title_bar, to_height

AREAS = {'small': (0, 32**2), 'medium': (32**2, 96**2), 'large': (96**2, float('inf'))}  # pixels, as COCO has them


def survey(source: Source, *, workers: int = 4, progress: Callable[[int, int], None] = lambda *_: None) -> list[str]:
    """Reads every image of a data set, and every label map -> lines that say what there is.

    Args:
        source: a data set of a config, of a kind that is understood.
        workers: images that are read at once.
        progress: is told after each image how many were read, of how many.

    Raises:
        DataError: the files cannot even be listed.
    """
    labels = labels_of(source)
    paths, maps = list(labels), list(labels.values()) if source.kind == 'label maps' else []
    sizes, errors, counts = [], [], np.zeros(256, np.int64)  # None where an image cannot be read
    measures = [_size] * len(paths) + [partial(_pixels, read=reader_of(source))] * len(maps)
    with ThreadPoolExecutor(workers) as pool:
        for done, result in enumerate(pool.map(_look, measures, paths + maps), start=1):
            progress(done, len(paths) + len(maps))
            if isinstance(result, Exception):
                errors.append(result)
                sizes.append(None)
            elif done <= len(paths):
                sizes.append(result)
            else:
                counts += result
    lines = [f'{len(paths):,} images; {_sizes([size for size in sizes if size])}', *_other_sizes(source, paths, sizes)]
    if errors:
        lines.append(f'{len(errors):,} files cannot be read: ' + '; '.join(str(error) for error in errors[:5]))
    return [f'{source.split}: {line}' for line in lines + _CLASSES[source.kind](source, labels, counts)]


def labels_of(source: Source) -> dict[str, str]:
    """Path of each image -> what goes with it: its label map, its class, or nothing (COCO).

    Raises:
        DataError: the kind of data is not understood, or its files cannot be listed.
    """
    if source.kind == 'coco':
        folder = source.folder('img')
        return {os.path.join(folder, name): '' for name, _, _ in read_coco(source.annotations).images.values()}
    if source.kind == 'label maps':
        return dict(pairs_of(source))
    if source.kind == 'class folders':
        found = open_labeled(Path(source.root), source.option('split') or '', source.classes or None)
        if found.shards is not None:
            raise DataError(f'{source.split}: labeled shards are not looked through; what is packed may be looked at '
                            'before: tools/pack.py --verify decodes all of it')
        return {os.fsdecode(file): found.classes[label] for file, label in zip(found.files, found.labels, strict=True)}
    raise DataError(f'{source.split}: {source.cfg.get("type")} is not understood: wanted a data set in COCO\'s format, '
                    'label maps (BaseSegDataset), or class folders (mae_backbone.ClassFolder)')


def samples(source: Source, count: int = 8, *, height: int = 256) -> list[np.ndarray]:
    """Some images (height, W, 3) uint8 RGB, at even distances in the set, with what is annotated drawn on them."""
    labels = labels_of(source)
    drawn, objects = [], _objects(source) if source.kind == 'coco' else {}
    for path in evenly(list(labels), count):
        try:
            image = read_image(path)
            picture = _DRAWN[source.kind](image, source, objects.get(path, []) if objects else labels[path])
        except (BadImageError, OSError):
            continue
        picture = to_height(picture, height)
        drawn.append(np.concatenate([title_bar(os.path.basename(path), picture.shape[1]), picture]))
    return drawn


def _read_labels(path: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
    """A label map (H, W) uint8 by `reader_of` its data set. Raises BadImageError."""
    try:
        labels = read(path)
    except UnknownColorError as error:
        raise BadImageError(f'{path} holds {error}') from error
    except UNREADABLE as error:
        raise BadImageError(f'{path} cannot be read as an image ({type(error).__name__}: {error}): copy it '
                            'again, or save '
                       'it as PNG') from error
    fault = fault_of(labels)
    if not fault and labels.size and not 0 <= labels.min() <= labels.max() <= IGNORED:
        fault = f'numbers from {labels.min()} to {labels.max()}'
    if fault:
        raise BadImageError(f'{path} holds {fault}: wanted one number in 0..{IGNORED} a pixel, as in a PNG of 8 bits')
    return labels.astype(np.uint8)


def _size(path: str) -> tuple[int, int]:
    """Height and width of an image, all of which is decoded."""
    return read_image(path).shape[:2]


def _pixels(path: str, read: Callable[[str], np.ndarray]) -> np.ndarray:
    """How many pixels of a label map have each number (256,)."""
    return np.bincount(_read_labels(path, read).ravel(), minlength=IGNORED + 1)


def _look(measure: Callable[[str], tuple[int, int] | np.ndarray],
          path: str) -> tuple[int, int] | np.ndarray | Exception:
    """The measure of a file, which is small so that results may wait, or what keeps it from being read."""
    try:
        return measure(path)
    except (BadImageError, OSError) as error:
        return error


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    if not sizes:
        return 'none can be read'
    heights, widths = np.array(sizes).T
    return ', '.join(f'{name} {values.min()} to {values.max()} pixels (median {np.median(values):.0f})'
                     for name, values in (('width', widths), ('height', heights)))


def _other_sizes(source: Source, paths: Sequence[str], sizes: Sequence[tuple[int, int] | None]) -> list[str]:
    """How many images have another size than the annotation file says, where it says one."""
    if source.kind != 'coco':
        return []
    stated = [(height, width) for _, width, height in read_coco(source.annotations).images.values()]
    wrong = [f'{os.path.basename(path)}: {want[1]}x{want[0]} stated, {size[1]}x{size[0]} read'
             for path, want, size in zip(paths, stated, sizes, strict=False) if size and size != want]
    return [f'{len(wrong):,} images have another size than the annotation file says, so that boxes do not fit '
            f'({some(wrong)})'] if wrong else []


# ---- classes

def _coco_classes(source: Source, *_: object) -> list[str]:
    file = read_coco(source.annotations)
    areas = [entry['area'] for entry in _content(source).get('annotations', [])
             if is_used(entry, file.images[entry['image_id']])]
    faults = Counter()
    for fault, ids in file.mask_faults.items():
        faults[fault.kind] += len(ids)
    boxes = Counter({file.categories[number]: count for number, count in file.boxes.items()})
    shares = ', '.join(f'{sum(low <= area < high for area in areas):,} {name}' for name, (low, high) in AREAS.items())
    per_image = sum(boxes.values()) / len(file.images)
    empty = len(file.images) - len(set().union(*file.annotated.values()))
    return [f'{sum(boxes.values()):,} boxes, {per_image:.1f} an image, {empty:,} images without; by area {shares}',
            f'{file.useless:,} left out (no area, or outside), {file.crowds:,} crowds, '
            f'{file.beyond:,} reach beyond their image; {faults.pop("missing", 0):,} without a mask, '
            f'{faults.total():,} broken masks',
            *_table({name: boxes[name] for name in file.categories.values()}, 'boxes')]


def _map_classes(source: Source, _: object, counts: np.ndarray) -> list[str]:
    names = dict(enumerate(source.classes)) | {IGNORED: '(no class)'}
    shift = 1 if source.option('reduce_zero_label') else 0
    found = {names.get(value - shift if value != IGNORED else value, f'label {value}, of no class'): int(count)
             for value, count in enumerate(counts) if count}
    lines = _table(dict.fromkeys(source.classes, 0) | found, 'pixels')
    pixels = counts[shift:shift + len(source.classes)]
    if source.split == 'train' and pixels.any():
        weights = ', '.join(f'{weight:.2f}' for weight in class_weights(pixels))
        lines.append(f'class_weight for loss_decode, if rare classes matter as much as frequent ones: [{weights}]')
    return lines


def class_weights(pixels: np.ndarray) -> list[float]:
    """Pixels of each class (C,) -> weights sqrt(median share / share), 1 where a class has none.

    Median frequency balancing (Eigen & Fergus, ICCV 2015), with shares of all pixels instead of those of the images
    that show the class; the square root, which takes the edge off, is ours.
    """
    shares = pixels / max(1, pixels.sum())
    median = np.median(shares[shares > 0]) if shares.any() else 0.0
    return [float(np.sqrt(median / share)) if share else 1.0 for share in shares]


def _folder_classes(_: Source, labels: dict[str, str], *__: object) -> list[str]:
    return _table(dict(Counter(labels.values())), 'images')


def _table(counts: dict[str, int], what: str) -> list[str]:
    """The most frequent 20 classes with their share, and how many have nothing."""
    total = sum(counts.values()) or 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    none = [name for name, count in ranked if not count]
    lines = [f'    {name:<24.24} {count:>12,} {what} {count / total:6.1%}' for name, count in ranked[:20] if count]
    if len(ranked) - len(none) > 20:
        lines.append(f'    and {len(ranked) - len(none) - 20} more classes')
    return lines + ([f'{len(none)} classes without any ({some(none)})'] if none else [])


_CLASSES = {'coco': _coco_classes, 'label maps': _map_classes, 'class folders': _folder_classes}


# ---- pictures

def _content(source: Source) -> dict:
    with open(source.annotations, encoding='utf-8') as file:
        return json.load(file)


def _objects(source: Source) -> dict[str, list[dict]]:
    """The annotations of each image, by its path."""
    content = _content(source)
    paths = {image['id']: os.path.join(source.folder('img'), image_file(image)) for image in content['images']}
    objects: dict[str, list[dict]] = {path: [] for path in paths.values()}
    for entry in content.get('annotations', []):
        objects[paths[entry['image_id']]].append(entry)
    return objects


def _draw_objects(image: np.ndarray, source: Source, objects: list[dict]) -> np.ndarray:
    """Boxes, outlines of polygons, and names; crowds in white."""
    categories = list(read_coco(source.annotations).categories.items())
    colors = dict(zip((number for number, _ in categories), palette(len(categories)), strict=True))
    picture, width = image.copy(), max(1, min(image.shape[:2]) // 200)
    for one in objects:
        color = (255, 255, 255) if one.get('iscrowd') else colors[one['category_id']]
        x, y, w, h = one['bbox']
        (x, y), (right, foot) = _points([x, y, x + w, y + h], picture).tolist()
        cv2.rectangle(picture, (x, y), (right, foot), color, width)
        cv2.polylines(picture, _outlines(one.get('segmentation'), picture), True, color, width)
        cv2.putText(picture, str(dict(categories)[one['category_id']]), (x, max(10, y - 2)), cv2.FONT_HERSHEY_SIMPLEX,
                    0.4 * width, color, width)
    return picture


def _points(numbers: list[float], picture: np.ndarray) -> np.ndarray:
    """Numbers x, y, x, y, ... -> (N, 2) int32, those far away cut to what OpenCV can draw."""
    height, width = picture.shape[:2]
    return np.array(numbers, np.float64).reshape(-1, 2).clip(-width - height, 2 * (width + height)).round().astype(
        np.int32)


def _outlines(segmentation: object, picture: np.ndarray) -> list[np.ndarray]:
    """The polygons of a segmentation, or those around its run lengths, each (N, 2); none of what is no mask."""
    height, width = picture.shape[:2]
    if mask_fault(segmentation, ('', width, height)) not in ('', 'partial'):
        return []
    if isinstance(segmentation, list):
        return [_points(polygon, picture) for polygon in segmentation if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if isinstance(segmentation['counts'], list):
        segmentation = coco_rle.frPyObjects(segmentation, height, width)
    outlines, _ = cv2.findContours(coco_rle.decode(segmentation), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return [outline[:, 0] for outline in outlines]


def _draw_map(image: np.ndarray, source: Source, path: str) -> np.ndarray:
    """The image, its classes in colors over it, and their names where they have 1 % of the pixels."""
    labels = _read_labels(path, reader_of(source))
    if labels.shape != image.shape[:2]:
        return image
    shift = 1 if source.option('reduce_zero_label') else 0
    own = (source.option('metainfo') or {}).get('palette') or getattr(source.cls, 'METAINFO', {}).get('palette')
    colors = np.zeros((max(256, shift + len(source.classes)), 3), np.uint8)
    colors[shift:shift + len(source.classes)] = own or palette(len(source.classes))
    picture = (image // 2 + colors[labels] // 2).astype(np.uint8)
    for label, name in enumerate(source.classes, start=shift):
        if (labels == label).mean() >= 0.01:
            _write_inside(picture, labels == label, name)
    return picture


def _write_inside(picture: np.ndarray, region: np.ndarray, name: str) -> None:
    """Writes a name around the point of a region (H, W) that is farthest from its edges."""
    distances = cv2.distanceTransform(np.pad(region.astype(np.uint8), 1), cv2.DIST_L2, 3)  # the frame is an edge too
    _, _, _, (x, y) = cv2.minMaxLoc(distances[1:-1, 1:-1])
    scale, width = max(0.35, picture.shape[0] / 1000), max(1, picture.shape[0] // 400)
    (wide, high), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, width)
    place = max(0, min(x - wide // 2, picture.shape[1] - wide)), y + high // 2
    for color, more in (((0, 0, 0), 2), ((255, 255, 255), 0)):  # white with a dark edge, legible on any color
        cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, scale, color, width + more, cv2.LINE_AA)


def _draw_class(image: np.ndarray, source: Source, name: str) -> np.ndarray:
    """The image, with the name of its class over it."""
    picture = to_height(image, max(96, image.shape[0]))
    return np.concatenate([title_bar(name, picture.shape[1]), picture])


_DRAWN = {'coco': _draw_objects, 'label maps': _draw_map, 'class folders': _draw_class}
