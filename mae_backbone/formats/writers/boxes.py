"""Writers of boxes and polygons: COCO, YOLO and Pascal VOC."""
import json
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import cv2
import numpy as np
import yaml
from pycocotools import mask as coco_rle

from mae_backbone.formats.coco_masks import is_complete
from mae_backbone.formats.layouts.labeled_set import LabeledImage, LabeledObject, LabeledSet, compressed, polygon_area
from mae_backbone.formats.writers.destination import Destination, clip_object, unique_names

_DIGITS = 8  # decimal places of YOLO's coordinates: a thousandth of a pixel in images of 100,000 pixels


def write_coco(labeled: LabeledSet, to: Destination) -> list[str]:
    """Writes SPLIT/IMAGE and annotations/instances_SPLIT.json, as the configs expect. Returns the next steps."""
    for split, images in _by_split(labeled).items():
        names = unique_names([image.file_name for image in images])
        content = labeled.content(split)
        for entry in content['images']:
            source = entry['file_name']
            entry['file_name'] = names[source]
            to.place(source, f'{split}/{names[source]}')
        to.write(f'annotations/instances_{split}.json', json.dumps(content, ensure_ascii=False))
    return [_check_command(labeled, to)]


def write_yolo(labeled: LabeledSet, to: Destination) -> list[str]:
    """Writes images/SPLIT, labels/SPLIT and data.yaml: boxes, or polygons where there are masks."""
    for split, images in _by_split(labeled).items():
        names = unique_names([image.file_name for image in images])
        for image in images:
            name = names[image.file_name]
            to.place(image.file_name, f'images/{split}/{name}')
            lines = [line for item in image.objects if (line := _yolo_line(labeled, image, item, to))]
            to.write(f'labels/{split}/{name.rpartition(".")[0]}.txt', ''.join(f'{line}\n' for line in lines))
    # Without `path`, folders are relative to data.yaml. ultralytics takes a relative `path` from the working directory.
    data = dict(**{split: f'images/{split}' for split in _by_split(labeled)}, names=dict(enumerate(labeled.names)))
    to.write('data.yaml', yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    if labeled.category_ids and labeled.category_ids != list(range(len(labeled.names))):
        to.lost.add('ids of classes, which are numbered from 0', 'data.yaml')
    return [_check_command(labeled, to)]


def _yolo_line(labeled: LabeledSet, image: LabeledImage, item: LabeledObject, to: Destination) -> str:
    """Line of an object; '' if it cannot be written."""
    if item.is_crowd:
        to.lost.add('regions to ignore (iscrowd, difficult), which are left out', image.file_name)
        return ''
    polygon = _one_polygon(image, item, to)
    if polygon is None:
        box = clip_object(item, image.size, to.lost, image.file_name)
        if box is None:
            return ''
        values = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2, box[2], box[3]])
    else:
        values = polygon
    scaled = values / np.resize(np.array(image.size, float), len(values))
    if polygon is not None and (scaled.min() < 0 or scaled.max() > 1):
        to.lost.add('parts of polygons beyond their image', image.file_name)
        scaled = scaled.clip(0, 1)
    return ' '.join([str(labeled.names.index(item.name)), *(f'{value:.{_DIGITS}f}' for value in scaled)])


def _one_polygon(image: LabeledImage, item: LabeledObject, to: Destination) -> np.ndarray | None:
    """Outline of a mask as one polygon x, y, x, y, ...; None for a box."""
    if item.segmentation is None:
        return None
    polygons = item.segmentation
    if not isinstance(polygons, list):
        to.lost.add('masks of pixels, which become polygons', image.file_name)
        polygons = _outlines(coco_rle.decode(compressed(polygons, image.size)))
    complete = [polygon for polygon in polygons if is_complete(polygon)]
    if len(complete) < len(polygons):
        to.lost.add('polygons of fewer than three points', image.file_name)
    polygons = complete
    if not polygons:
        return None
    if len(polygons) > 1:
        to.lost.add('objects of several polygons, which are joined by lines', image.file_name)
    # The line to the next polygon and the line back are the same, so that they enclose no area.
    points = [np.array(polygon, float) for polygon in sorted(polygons, key=polygon_area, reverse=True)]
    first = points[0]
    joined = [first]
    for other in points[1:]:
        joined += [first[:2], other, other[:2]]
    return np.concatenate([*joined, *([first[:2]] if len(points) > 1 else [])])


def _outlines(mask: np.ndarray) -> list[list[float]]:
    """Outer outlines of a mask (H, W), along the edges of its pixels.

    OpenCV's contours run through the centers of the outermost pixels. In a mask of twice the size, with each pixel
    drawn as four, they are a quarter of a pixel from the edge.
    """
    doubled = np.kron(mask, np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [((contour[:, 0] + 0.5) / 2).ravel().tolist() for contour in contours if len(contour) >= 3]


def write_voc(labeled: LabeledSet, to: Destination) -> list[str]:
    """Writes JPEGImages, Annotations and ImageSets/Main; pixels count from 1 and are rounded."""
    splits = _by_split(labeled)
    names = unique_names([image.file_name for image in labeled.images])
    for split, images in splits.items():
        for image in images:
            name = names[image.file_name]
            to.place(image.file_name, f'JPEGImages/{name}')
            to.write(f'Annotations/{name.rpartition(".")[0]}.xml', _voc_xml(image, name, to))
        stems = sorted(names[image.file_name].rpartition('.')[0] for image in images)
        to.write(f'ImageSets/Main/{split}.txt', ''.join(f'{stem}\n' for stem in stems))
    used = {item.name for image in labeled.images for item in image.objects}
    for name in labeled.names:
        if name not in used:
            to.lost.add('classes without an object', name)
    return [f'mae-backbone check faster-rcnn_vit-micro_nuclei --data-root {to.folder}']


def _voc_xml(image: LabeledImage, name: str, to: Destination) -> str:
    root = Element('annotation')
    SubElement(root, 'filename').text = name
    size = SubElement(root, 'size')
    for key, value in zip(('width', 'height', 'depth'), (*image.size, 3), strict=True):
        SubElement(size, key).text = str(value)
    SubElement(root, 'segmented').text = '0'
    for item in image.objects:
        box = clip_object(item, image.size, to.lost, image.file_name)
        if box is None:
            continue
        if item.segmentation is not None:
            to.lost.add('masks: their boxes are written', image.file_name)
        node = SubElement(root, 'object')
        SubElement(node, 'name').text = item.name
        SubElement(node, 'difficult').text = str(int(item.is_crowd))
        bounds = SubElement(node, 'bndbox')
        # Both corners belong to the box and count from 1: the right edge at x is the right edge of pixel x.
        left, top = round(box[0]) + 1, round(box[1]) + 1
        right, bottom = max(left, round(box[0] + box[2])), max(top, round(box[1] + box[3]))
        for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), (left, top, right, bottom), strict=True):
            SubElement(bounds, key).text = str(value)
    indent(root)
    return tostring(root, encoding='unicode') + '\n'


def _check_command(labeled: LabeledSet, to: Destination) -> str:
    has_masks = any(item.segmentation is not None for image in labeled.images for item in image.objects)
    config = 'mask-rcnn_vit-micro_nuclei' if has_masks else 'faster-rcnn_vit-micro_nuclei'
    return f'mae-backbone check {config} --data-root {to.folder}'


def _by_split(labeled: LabeledSet) -> dict[str, list[LabeledImage]]:
    splits: dict[str, list[LabeledImage]] = {split: [] for split in ('train', 'val', 'test') if split in labeled.splits}
    for image in labeled.images:
        splits[image.split].append(image)
    return splits
