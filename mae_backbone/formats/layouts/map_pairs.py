"""Label maps of any naming: pairs of an image and its map, their splits and classes."""
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from mae_backbone.data.files import ImageWalk
from mae_backbone.data.label_colors import IGNORED, Color
from mae_backbone.formats.classes_txt import read_classes
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import evenly_spaced
from mae_backbone.formats.label_map_files import open_label_map
from mae_backbone.formats.label_map_palettes import check_palettes, palette_colors
from mae_backbone.formats.layouts.files import read_text
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES, Findings, split_in_path
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
_SUFFIXES = (*_MAP_FORMATS, *_JPEG, '.webp')
NUM_SAMPLED = 50  # number of maps that are read to find out whether they hold numbers or colors
_MAX_CLASSES = IGNORED
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
VOC_CLASSES = ('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
               'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train',
               'tvmonitor')  # order of the VOC devkit


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
    names, colors, ignored = _named_classes(root)
    encoding = _encoding(root, pairs, [*colors, *ignored])
    colored = bool(encoding.colors) or not {*encoding.palette.values()}.isdisjoint([*colors, *ignored])
    is_binary = encoding.is_binary and len(names) <= 2 and not colors
    if is_binary:
        names = names if len(names) == 2 else ['background', *(names or ['foreground'])]
        colors = [_BLACK, _WHITE] if encoding.colors and not encoding.labels else []
    elif encoding.colors and not colors:
        names, colors, ignored = _by_colors(root, pairs, notes)
    elif not names:
        names = _numbered(root, encoding, notes)
    return MapSet(root, names, colors if colored else [], ignored if colored else [], is_binary and not colored, pairs,
                  left_out, notes)


def pairs_among(names: Sequence[str]) -> list[MapPair]:
    """Returns the pairs of an image and its label map among images that are used without labels; [] if unclear.

    Args:
        names: absolute paths.
    """
    try:
        return _pairs(Path(os.sep), [name.replace(os.sep, '/') for name in names], Findings())
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


# ---- classes

class _Encoding(NamedTuple):
    labels: set[int]     # values in maps that hold numbers
    colors: set[Color]   # values in maps that hold colors
    is_voc: bool         # whether maps have Pascal VOC's palette
    palette: Mapping[int, Color] = {}  # color of each number in maps with a palette

    @property
    def is_binary(self) -> bool:
        """True if all values are 0 or 255."""
        return (bool(self.labels) and self.labels <= {0, IGNORED} and IGNORED in self.labels) or (
            _WHITE in self.colors and self.colors <= {_BLACK, _WHITE})


def hold_black_and_white(maps: Iterable[str]) -> bool:
    """True if label maps hold 0 and 255, or black and white, and nothing else. Stops at the first other map."""
    labels, colors = set[int](), set[Color]()
    for path in maps:
        values = _values(Path(path))
        if not (values.labels <= {0, IGNORED} and values.colors <= {_BLACK, _WHITE}):
            return False
        labels, colors = labels | values.labels, colors | values.colors
    return labels == {0, IGNORED} or colors == {_BLACK, _WHITE}


def _encoding(root: Path, pairs: Sequence[MapPair], colors: Sequence[Color]) -> _Encoding:
    """Reads a sample of the maps. Raises DataError if their palettes contradict each other."""
    paths = [root / pair.map for pair in evenly_spaced(pairs, NUM_SAMPLED)]
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(_values, paths))
    check_palettes(((str(path), sample.palette) for path, sample in zip(paths, samples, strict=True)), colors)
    return _Encoding(set().union(*(sample.labels for sample in samples)),
                     set().union(*(sample.colors for sample in samples)), any(sample.is_voc for sample in samples),
                     {index: color for sample in samples for index, color in sample.palette.items()})


def _values(path: Path) -> _Encoding:
    """Labels or colors of a map. Raises DataError if it cannot be read."""
    try:
        with open_label_map(str(path)) as image:
            pixels = np.asarray(image)
            entries, palette = image.getpalette() or [], palette_colors(image)
    except Exception as error:  # PIL raises many kinds of errors for broken files
        raise DataError(f'{path} cannot be read as a label map ({type(error).__name__}: {error}): copy it again, or '
                        'remove it and its image') from error
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        codes = np.unique(pixels[..., :3].astype(np.int64) @ np.array([65536, 256, 1]))
        return _Encoding(set(), {(code >> 16, code >> 8 & 255, code & 255) for code in codes[:1000].tolist()}, False)
    if pixels.ndim != 2 or pixels.dtype.kind not in 'bui':
        raise DataError(f'{path} has the shape {pixels.shape} and {pixels.dtype} numbers, expected one number or color '
                        'per pixel: save it as 8-bit PNG')
    # The first colors of VOC's palette: black, dark red, dark green.
    return _Encoding(set(np.unique(pixels).astype(int).tolist()), set(), entries[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0],
                     palette)


def _named_classes(root: Path) -> tuple[list[str], list[Color], list[Color]]:
    """Names and colors in classes.txt, or in labelmap.txt of CVAT; empty without."""
    if (root / 'classes.txt').is_file():
        file = read_classes(root / 'classes.txt')
        return file.names, file.colors, file.ignored
    path = root / 'labelmap.txt'
    if not path.is_file():
        return [], [], []
    names, colors = [], []
    for position, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith('#'):
            continue
        match = re.match(r'(?P<name>[^:]+):(\d{1,3}),(\d{1,3}),(\d{1,3}):', line)
        if not match:
            raise DataError(f'{path}, line {position}: {line!r:.60}, expected name:red,green,blue::')
        names.append(match['name'].strip())
        colors.append((int(match[2]), int(match[3]), int(match[4])))
    return names, colors, []


def _by_colors(root: Path, pairs: Sequence[MapPair], notes: Findings) -> tuple[list[str], list[Color], list[Color]]:
    """Makes each color of all maps a class."""
    with ThreadPoolExecutor(8) as pool:
        values = pool.map(_values, [root / pair.map for pair in pairs])
        colors = sorted(set().union(*(value.colors for value in values)))
    if len(colors) > _MAX_CLASSES:
        raise DataError(f'{root}: the label maps have {len(colors):,} colors, and no classes.txt says which of them '
                        f'are classes: write classes.txt into {root}, a name and a color such as "road #804080" in '
                        'each line. Maps must not be smoothed or saved as JPEG')
    names = [f'color {red:02x}{green:02x}{blue:02x}' for red, green, blue in colors]
    notes.add('colors without a name, which are classes named by their color: write a classes.txt, a name and a color '
              'such as "road #804080" in each line', str(root))
    return names, colors, []


def _numbered(root: Path, encoding: _Encoding, notes: Findings) -> list[str]:
    labels = encoding.labels - {IGNORED}
    if encoding.is_voc and max(labels, default=0) < len(VOC_CLASSES):
        return list(VOC_CLASSES)
    count = max(labels, default=0) + 1
    if count > 2 * len(labels) + 1:
        raise DataError(f'{root}: label maps have the numbers {first_few(sorted(labels))}, and no classes.txt '
                        f'names the classes: expected 0, 1, 2, ... and {IGNORED} for pixels of no class. Map the '
                        f'numbers, or write classes.txt into {root} with a name for each number from 0 on')
    notes.add('classes without names, which are numbered: write a classes.txt with a name in each line', str(root))
    return [f'class {label}' for label in range(count)]
