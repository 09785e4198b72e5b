"""Pairs of an image and its label map, in folders and files of any naming."""
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mae_backbone.data.files import ImageWalk
from mae_backbone.data.label_colors import Color
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.files import read_text
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES, Findings, split_in_path
from mae_backbone.formats.layouts.map_classes import classes_of_maps
from mae_backbone.formats.layouts.map_contents import pairs_by_content
from mae_backbone.formats.messages import first_few
from mae_backbone.formats.names import name_key, nfc

_MAP_WORDS = ('masks', 'mask', 'labels', 'label', 'annotations', 'annotation', 'annot', 'segmentationclass',
              'segmentation', 'segmentations', 'seg', 'segs', 'groundtruth', 'ground_truth', 'gt', 'gtfine', 'targets',
              'target', 'labelmaps', 'label_maps', 'ann_dir', 'label_dir', 'mask_dir', 'seg_dir')
_IMAGE_WORDS = ('images', 'image', 'imgs', 'img', 'jpegimages', 'inputs', 'input', 'photos', 'rgb', 'leftimg8bit',
                'img_dir', 'data')
_MAP_SUFFIXES = ('gtfine_labeltrainids', 'gtfine_labelids', 'labeltrainids', 'labelids', 'mask', 'masks', 'label',
                 'labels', 'seg', 'segmentation', 'gt', 'groundtruth', 'annotation')
_IMAGE_SUFFIXES = ('leftimg8bit', 'image', 'img', 'rgb', 'sat')
_MAP_FORMATS = ('.png', '.gif', '.bmp', '.tif', '.tiff')
_JPEG = ('.jpg', '.jpeg', '.jpe')
_MAX_SEARCHED = 100_000  # largest number of images among which `pairs_among` searches: 1.3 s
_SUFFIXES = (*_MAP_FORMATS, *_JPEG, '.webp')


class MapPair(NamedTuple):
    """An image and its label map: paths relative to the root, with '/'."""

    image: str
    map: str
    split: str = ''


@dataclass
class MapSet:
    """Images with label maps.

    Attributes:
        root: folder that the paths are relative to.
        names: class names in the order of the labels.
        colors: color of each class in the maps; empty if the maps hold labels as numbers.
        ignored: colors of pixels of no class.
        is_binary: whether the maps hold 0 and 255 for two classes.
        pairs: all pairs.
        left_out: data that are not read.
        notes: data that are read in another way than a user may expect.
    """

    root: Path
    names: list[str]
    colors: list[Color]
    ignored: list[Color]
    is_binary: bool
    pairs: list[MapPair]
    left_out: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)

    def lines(self) -> list[str]:
        """Describes the set for the plan."""
        encoding = 'as 0 and 255' if self.is_binary else 'in colors' if self.colors else 'as numbers'
        by_split = ', '.join(f'{sum(pair.split == split for pair in self.pairs):,} {split or "without split"}'
                             for split in sorted({pair.split for pair in self.pairs}))
        return [f'layout: images and label maps in {self.root}: {len(self.pairs):,} pairs ({by_split}), such as '
                f'{self.pairs[0].image} and {self.pairs[0].map}, classes {encoding}',
                *(f'layout: {line}' for line in self.notes.lines()),
                *(f'layout: left out: {line}' for line in self.left_out.lines())]


def find_map_pairs(root: Path) -> MapSet | None:
    """Finds pairs by the names of folders (images/, masks/) and files (NAME.jpg, NAME_mask.png).

    If these names form no pair, finds pairs by the pixels of the maps (`pairs_by_content`).

    Returns:
        None if there are none.

    Raises:
        DataError: images have several maps, maps have no image, maps are JPEG, or the classes of the values in maps are
            not known.
    """
    left_out, notes = Findings(), Findings()
    pairs = _pairs(root, _names(root), left_out)
    if not pairs:
        return None
    pairs = _with_listed_splits(root, pairs)
    classes = classes_of_maps(root, [pair.map for pair in pairs], notes)
    return MapSet(root, *classes, pairs, left_out, notes)


def pairs_among(names: Sequence[str]) -> list[MapPair]:
    """Returns the pairs of an image and its label map among images that are used without label maps; [] if unclear.

    Pairs are not searched among very many images, because every start of a training would wait for it.

    Args:
        names: paths, relative to the current folder or absolute.
    """
    if len(names) > _MAX_SEARCHED:
        return []
    paths = [os.path.abspath(name).replace(os.sep, '/') for name in names]
    try:
        return _pairs(Path(os.sep), paths, Findings())
    except DataError:
        return []


# ---- pairs

def _pairs(root: Path, names: Sequence[str], left_out: Findings) -> list[MapPair]:
    images: dict[tuple[str, ...], list[str]] = defaultdict(list)
    maps: dict[tuple[str, ...], list[str]] = defaultdict(list)
    compressed: dict[tuple[str, ...], str] = {}
    for path in map(PurePosixPath, names):
        key, is_map = _key(path)
        if not is_map:
            images[key].append(str(path))
        elif path.suffix.lower() in _MAP_FORMATS:
            maps[key].append(str(path))
        elif path.suffix.lower() in _JPEG:
            compressed[key] = str(path)
    for key in [key for key, paths in maps.items() if len(paths) > 1]:
        maps[key] = _of_cityscapes(maps[key])
    several = [paths for key, paths in maps.items() if len(paths) > 1 and key in images]
    several += [paths for key, paths in images.items() if len(paths) > 1 and key in maps]
    if several:
        raise DataError(f'{root}: {len(several):,} images or label maps have the same name ({first_few(several[0])}): '
                        'keep one image and one label map of each name')
    both = sorted(images.keys() & maps.keys())
    of_images = sorted(images.keys() & compressed.keys() - maps.keys())
    if not both and 2 * len(of_images) >= len(images) > 0:
        raise DataError(_jpeg_fault(root, len(of_images), images[of_images[0]][0], compressed[of_images[0]]))
    if not both:
        found = pairs_by_content(root, names, _MAP_FORMATS)
        used = {name for pair in found for name in pair}
        for name in sorted({*names} - used) if found else []:
            left_out.add('images and label maps that form no pair', name)
        return [MapPair(*pair, _split(pair.image)) for pair in found]
    for key in of_images:
        left_out.add('label maps saved as JPEG, which changes labels', compressed[key])
    for key in sorted(images.keys() - maps.keys()):
        left_out.add('images without a label map', images[key][0])
    for key in sorted(maps.keys() - images.keys()):
        left_out.add('label maps without an image', maps[key][0])
    return [MapPair(images[key][0], maps[key][0], _split(images[key][0])) for key in both]


def _names(root: Path) -> list[str]:
    """Returns the paths of all images and label maps relative to the root, with '/'."""
    return [name.replace(os.sep, '/') for name in ImageWalk(root, _SUFFIXES)]


def _of_cityscapes(maps: list[str]) -> list[str]:
    """Returns the map with the labels of the evaluation if there are several maps of an image, as in Cityscapes."""
    for suffix in ('labeltrainids', 'labelids'):
        preferred = [path for path in maps if PurePosixPath(path).stem.lower().endswith(suffix)]
        if len(preferred) == 1:
            return preferred
    return maps


def refuse_folders_of_maps(root: Path) -> None:
    """Refuses folders named like images and label maps, such as images and masks, as folders of classes.

    Raises:
        DataError: at least half of the files in folders of images have a file of the same name in a folder of maps, by
            the names of the folders, or by the pixels of the maps (`pairs_by_content`).
    """
    names = _names(root)
    by_kind: dict[str, dict[tuple[str, ...], str]] = defaultdict(dict)
    for name in names:
        path = PurePosixPath(name)
        kinds = {_without_word(folder.lower())[1] for folder in path.parts[:-1]}
        by_kind['map' if 'map' in kinds else 'image' if 'image' in kinds else ''][_key(path)[0]] = name
    images, maps = by_kind['image'], by_kind['map']
    both = sorted(images.keys() & maps.keys())
    by_content = [] if both else pairs_by_content(root, names, _MAP_FORMATS)
    if 2 * (len(both) or len(by_content)) < max(1, len(images) if both else len(names) / 2):
        return
    image, label_map = (images[both[0]], maps[both[0]]) if both else by_content[0]
    if PurePosixPath(label_map).suffix.lower() in _JPEG:
        raise DataError(_jpeg_fault(root, len(both), image, label_map))
    raise DataError(no_classes(root, image, label_map))


def no_classes(root: Path, image: str, label_map: str) -> str:
    """Returns the message for folders of images and label maps that are used as class folders."""
    return (f'{root} has images and label maps, such as {image} and {label_map}, and no class folders: configs of '
            'segmentation read them, such as upernet_vit-micro_camvid')


def _jpeg_fault(root: Path, count: int, image: str, label_map: str) -> str:
    return (f'{root}: {count:,} label maps are JPEG, such as {label_map} of the image {image}. The compression of JPEG '
            'changes labels: save the label maps as PNG, from the original labels')


def _key(path: PurePosixPath) -> tuple[tuple[str, ...], bool]:
    """Returns the common key of an image and its map, and whether a path is the map."""
    folders, is_map = [], False
    for folder in path.parts[:-1]:
        rest, kind = _without_word(name_key(folder))
        is_map |= kind == 'map'
        folders += [rest] if rest else []
    stem = name_key(path.stem)
    for suffixes, kind in ((_MAP_SUFFIXES, 'map'), (_IMAGE_SUFFIXES, 'image')):
        match = re.fullmatch(rf'(.+?)[_.-]({"|".join(suffixes)})|mask[_.-](?P<rest>.+)' if kind == 'map' else
                             rf'(.+?)[_.-]({"|".join(suffixes)})', stem)
        if match:
            is_map |= kind == 'map'
            stem = match[1] or match['rest']
            break
    return (*folders, stem), is_map


@lru_cache(maxsize=4096)
def _without_word(folder: str) -> tuple[str, str]:
    """Removes a word for images or maps from a folder name; returns the rest and the kind of the word."""
    for words, kind in ((_MAP_WORDS, 'map'), (_IMAGE_WORDS, 'image')):
        if folder in words:
            return '', kind
        for word in words:
            if match := re.fullmatch(rf'(train|training|val|valid|validation|test)[_-]?{word}|{word}[_-](train|training'
                                     r'|val|valid|validation|test)', folder):
                return match[1] or match[2], kind
    return folder, ''


def _split(name: str) -> str:
    """Returns the split that a folder of a path names, such as train or train_images; '' if there is none."""
    splits = {SPLIT_NAMES[word] for folder in PurePosixPath(name).parts[:-1] for word in _split_words(folder.lower())}
    return split_in_path(name) or (splits.pop() if len(splits) == 1 else '')


def _split_words(folder: str) -> list[str]:
    """Names of splits among the words of the name of a folder, such as training in ISIC2018_Training_Input."""
    return [word for word in (_without_word(folder)[0], *re.split('[_-]', folder)) if word in SPLIT_NAMES]


def _with_listed_splits(root: Path, pairs: list[MapPair]) -> list[MapPair]:
    """Splits of Pascal VOC's lists in ImageSets/Segmentation; pairs in no list are dropped."""
    stems: dict[str, str] = {}
    for folder in sorted(root.glob('**/ImageSets/Segmentation')):
        for name, split in (('trainval', 'train'), ('train', 'train'), ('val', 'val'), ('test', 'test')):
            path = folder / f'{name}.txt'
            if path.is_file():
                stems |= {nfc(line.strip()): split for line in read_text(path).splitlines() if line.strip()}
    names = [nfc(PurePosixPath(pair.image).stem) for pair in pairs]
    listed = [pair._replace(split=stems[name]) for pair, name in zip(pairs, names, strict=True) if name in stems]
    return listed or pairs
