"""Writer of label maps, and label maps as regions for COCO's format."""
import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_rle

from mae_backbone.data.label_colors import IGNORED
from mae_backbone.formats.coco_masks import is_complete
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layout_maps import read_map
from mae_backbone.formats.layouts.image_index import ImageIndex
from mae_backbone.formats.layouts.labeled_set import LabeledImage, LabeledObject, LabeledSet, area, compressed
from mae_backbone.formats.layouts.map_pairs import MapSet
from mae_backbone.formats.writers.destination import Destination, unique_names
from mae_backbone.utils.atomic_write import atomic_path

_FOLDERS = {'train': 'training', 'val': 'validation', 'test': 'test'}
BACKGROUND = 'background'


def write_map_pairs(found: MapSet, to: Destination) -> list[str]:
    """Writes images/, annotations/ with numbers, and classes.txt. Returns the next steps."""
    for split in _FOLDERS:
        pairs = [pair for pair in found.pairs if pair.split == split]
        names = unique_names([pair.image for pair in pairs])
        for pair in pairs:
            _place(to, split, pair.image, names[pair.image], read_map(found, pair.map))
    return _finish(to, found.names)


def write_objects_as_maps(labeled: LabeledSet, to: Destination) -> list[str]:
    """Draws masks into label maps: 0 is background, then the classes; smaller objects are drawn over larger ones.

    Raises:
        DataError: there are boxes without masks, or too many classes.
    """
    boxes = [image.file_name for image in labeled.images for item in image.objects if item.segmentation is None]
    if boxes:
        raise DataError(f'{len(boxes):,} objects have a box and no mask ({boxes[0]}), so that they do not say which '
                        'pixels belong to a class: import them with --to coco, yolo or voc')
    names = [BACKGROUND, *(name for name in labeled.names if name != BACKGROUND)]
    if len(names) > IGNORED:
        raise DataError(f'{labeled.root} has {len(labeled.names)} classes, expected at most {IGNORED - 1}: label maps '
                        'have 8 bits per pixel')
    for split in _FOLDERS:
        images = [image for image in labeled.images if image.split == split]
        unique = unique_names([image.file_name for image in images])
        for image in images:
            _place(to, split, image.file_name, unique[image.file_name], _draw(image, names, to))
    return _finish(to, names)


def _draw(image: LabeledImage, names: list[str], to: Destination) -> np.ndarray:
    labels = np.zeros((image.size[1], image.size[0]), np.uint8)
    count = np.zeros_like(labels)
    for item in sorted(image.objects, key=lambda item: -area(item, image.size)):
        pixels = _pixels(image, item, to)
        count += pixels
        labels[pixels > 0] = IGNORED if item.is_crowd else names.index(item.name)
    if (count > 1).any():
        to.lost.add('objects that overlap: the smaller one is on top', image.file_name)
    if image.objects:
        to.lost.add('borders between objects of a class', image.file_name)
    return labels


def _pixels(image: LabeledImage, item: LabeledObject, to: Destination) -> np.ndarray:
    """Mask (H, W) uint8 of an object."""
    width, height = image.size
    if not isinstance(item.segmentation, list):
        return coco_rle.decode(compressed(item.segmentation or {}, image.size))
    polygons = [polygon for polygon in item.segmentation if is_complete(polygon)]
    if len(polygons) < len(item.segmentation):  # pycocotools would draw four numbers as a box
        to.lost.add('polygons of fewer than three points', image.file_name)
    if not polygons:
        return np.zeros((height, width), np.uint8)
    return coco_rle.decode(coco_rle.merge(coco_rle.frPyObjects(polygons, height, width)))


def _place(to: Destination, split: str, source: str, name: str, labels: np.ndarray) -> None:
    to.place(source, f'images/{_FOLDERS[split]}/{name}')
    path = to.folder / 'annotations' / _FOLDERS[split] / f'{name.rpartition(".")[0]}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, keep_suffix=True) as temporary:
        Image.fromarray(labels).save(temporary)


def _finish(to: Destination, names: list[str]) -> list[str]:
    to.write('classes.txt', ''.join(f'{name}\n' for name in names))
    return [f'mae-backbone check upernet_vit-micro_camvid --data-root {to.folder}']


def regions(found: MapSet) -> LabeledSet:
    """Label maps -> objects: each connected region of a class, without the background and pixels of no class."""
    sizes = ImageIndex(found.root).sizes(pair.image for pair in found.pairs)
    names = [name for label, name in enumerate(found.names) if label or name.lower() != BACKGROUND]
    images = []
    for pair in found.pairs:
        labels, objects = read_map(found, pair.map), []
        for label in np.unique(labels).tolist():
            if label == IGNORED or found.names[label] not in names:
                continue
            count, numbered = cv2.connectedComponents((labels == label).astype(np.uint8), connectivity=8)
            objects += [_region(found.names[label], numbered == number) for number in range(1, count)]
        images.append(LabeledImage(pair.image, sizes[pair.image].upright, objects, pair.split))
    found.notes.add('connected regions of a class, which become one object each: objects of a class that touch are not '
                    'separated', str(found.root))
    return LabeledSet(found.root, 'label maps', names, images, found.left_out, found.notes)


def _region(name: str, pixels: np.ndarray) -> LabeledObject:
    rle = coco_rle.encode(np.asfortranarray(pixels.astype(np.uint8)))
    x, y, width, height = coco_rle.toBbox(rle).tolist()
    return LabeledObject(name, (x, y, width, height), dict(size=list(map(int, rle['size'])),
                                                           counts=rle['counts'].decode()))
