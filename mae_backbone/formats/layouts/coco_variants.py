"""COCO's format under other names of files and folders, as Roboflow, Label Studio and CVAT export it."""
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from mae_backbone.formats.coco_json import parse
from mae_backbone.formats.coco_validation import validated
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.image_index import ImageIndex, stated_size
from mae_backbone.formats.layouts.labeled_set import (
    SPLIT_NAMES,
    Findings,
    LabeledImage,
    LabeledObject,
    LabeledSet,
    split_in_path,
)
from mae_backbone.formats.layouts.layout import Layout, label_files
from mae_backbone.formats.messages import first_few

_PATTERNS = ('*.json', '*/*.json', '*/*/*.json')
_OTHER_TASKS = re.compile(r'^(captions|person_keypoints|panoptic|stuff|image_info)_')
_LISTS = ('"images"', '"annotations"', '"categories"')
_FIELDS = ('"file_name"', '"image_id"', '"supercategory"')


def detect(root: Path) -> bool:
    """True if there is a JSON file that seems to have the lists of COCO's format."""
    return bool(_files(root))


def read(root: Path) -> LabeledSet:
    """Reads all COCO files of a folder together. Ids are kept; classes of several files are joined by name.

    The split of a file is in its name or folder; without one, the images are without split. File names of images may be
    relative to the file, to the root, or to a folder named images.

    Raises:
        DataError: a file is damaged, an image is missing, or two files name the same image.
    """
    left_out, notes = Findings(), Findings()
    index, images = ImageIndex(root, notes), []
    names: dict[str, int] = {}
    file_of: dict[str, Path] = {}
    files = _files(root)
    splits = [_split_of(root, path) for path in files]
    contents = []
    for path in files:
        content, _ = validated(str(path), _without_repeated_groups(parse(str(path), path.stat().st_size), notes))
        contents.append(content)
        for category in content['categories']:
            names.setdefault(str(category['name']), category['id'])
    _drop_parents(contents, names, notes)
    for path, split, content in zip(files, splits, contents, strict=True):
        images += _images(root, path, split, content, index, notes, file_of)
    known = {image.file_name for image in images}
    for name in sorted({*index.names} - known):
        left_out.add('images that no COCO file names', name)
    ids = list(names.values())
    unique = len(set(ids)) == len(ids) and all(isinstance(number, int) for number in ids)
    return LabeledSet(root, 'COCO', list(names), images, left_out, notes, ids if unique else [])


LAYOUT = Layout('COCO', detect, read)


def _files(root: Path) -> list[Path]:
    """COCO files of the root, at most two folders deep."""
    return label_files(root, _PATTERNS, lambda path: not _OTHER_TASKS.match(path.name) and _is_coco(path))


def _is_coco(path: Path) -> bool:
    text = peek(path)
    return (text.lstrip().startswith('{') and '"shapes"' not in text and any(word in text for word in _LISTS)
            and any(word in text for word in _FIELDS))


def _split_of(root: Path, path: Path) -> str:
    """The split in the name of a file (instances_val2017.json) or of its folder (valid/_annotations.coco.json)."""
    words = {SPLIT_NAMES[word] for word in re.split(r'[^a-z]+', path.stem.lower()) if word in SPLIT_NAMES}
    return words.pop() if len(words) == 1 else split_in_path(path.relative_to(root).as_posix())


def _without_repeated_groups(content: Any, notes: Findings) -> Any:
    """Drops classes without objects that have the name of another class, as Roboflow writes groups of classes."""
    if not isinstance(content, dict):
        return content  # refused by the validation
    categories: Any = content.get('categories')
    annotations: Any = content.get('annotations', [])
    if not _are_dicts(categories) or not _are_dicts(annotations):
        return content
    used = {str(annotation.get('category_id')) for annotation in annotations}
    counts = Counter(str(category.get('name')).strip() for category in categories)
    dropped = [category for category in categories if counts[str(category.get('name')).strip()] > 1
               and str(category.get('id')) not in used]
    for category in dropped:
        notes.add('classes without objects that have the name of another class, which are dropped', category['name'])
    return content | dict(categories=[category for category in categories if category not in dropped])


def _are_dicts(entries: Any) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)


def _drop_parents(contents: list[dict[str, Any]], names: dict[str, int], notes: Findings) -> None:
    """Drops classes that are only the supercategory of others and have no object, as Roboflow writes them."""
    parents = {str(category.get('supercategory')) for content in contents for category in content['categories']}
    used = set()
    for content in contents:
        ids = {annotation['category_id'] for annotation in content.get('annotations', [])}
        used |= {str(category['name']) for category in content['categories'] if category['id'] in ids}
    for name in [name for name in names if name in parents and name not in used and len(names) > 1]:
        del names[name]
        notes.add('classes without objects that only group others, which are dropped', name)


def _check_splits(path: Path, split: str, found: dict[str, str]) -> None:
    """Refuses images without a stated folder that are found in the folder of another split.

    A file may name only images of another split. But if others are in the folder of its own split, the image of this
    name is a different one, such as the first of each split.

    Args:
        path: annotation file.
        split: its split; '' if it is not known.
        found: path of the image by its `file_name`.
    """
    own = [name for name in found.values() if split_in_path(name) == split]
    others = [f'{stated} -> {name}' for stated, name in found.items()
              if split_in_path(name) not in ('', split) and not split_in_path(stated.replace('\\', '/'))]
    if split and own and others:
        raise DataError(f'{path}: {len(others):,} of its {len(found):,} images are not in the folder of the split, but '
                        f'images of another split have their names ({first_few(others)}): copy the images to '
                        f'{os.path.dirname(own[0])}, or correct file_name')


def _images(root: Path, path: Path, split: str, content: dict[str, Any], index: ImageIndex, notes: Findings,
            file_of: dict[str, Path]) -> list[LabeledImage]:
    name_of = {category['id']: str(category['name']) for category in content['categories']}
    folder = path.parent.relative_to(root).as_posix().removeprefix('.')
    parent = os.path.dirname(folder)
    stem = re.sub(r'^instances_', '', path.stem)
    folders = [folder, '', 'images', os.path.join(folder, 'images'), os.path.join(parent, 'images'), parent,
               *(os.path.join(parent, part, name) for part in ('', 'images') for name in (stem, split) if name)]
    objects: dict[object, list[LabeledObject]] = {image['id']: [] for image in content['images']}
    for annotation in content.get('annotations', []):
        number = annotation['id']
        x, y, width, height = annotation['bbox']
        objects[annotation['image_id']].append(LabeledObject(
            name_of[annotation['category_id']], (x, y, width, height), annotation.get('segmentation') or None,
            bool(annotation.get('iscrowd') or annotation.get('ignore')), number if isinstance(number, int) else None,
            annotation['area']))
    found = {image['id']: index.find(str(image['file_name']), folders=folders) for image in content['images']}
    missing = [str(image['file_name']) for image in content['images'] if not found[image['id']]]
    if missing:
        raise DataError(f'{len(missing):,} of the {len(found):,} images in {path} '
                        f'{index.missing(missing, f" below {root}")}: copy them there, or correct file_name')
    _check_splits(path, split, {str(image['file_name']): found[image['id']] for image in content['images']})
    sizes = index.sizes(found.values())
    images = []
    for image in content['images']:
        name = found[image['id']]
        if file_of.get(name) == path:
            raise DataError(f'{path} lists the image {name} more than once, so that objects of one entry would be '
                            'background in the other: join the entries')
        if name in file_of:
            raise DataError(f'{path} names the image {name}, which {file_of[name]} names as well: use different images '
                            'for training and validation, or remove one of the files')
        file_of[name] = path
        size = stated_size(sizes[name], (image['width'], image['height']), f'{path}, image {image["file_name"]}', name)
        images.append(LabeledImage(name, size, objects[image['id']], split or split_in_path(name),
                                   id=image['id'] if isinstance(image['id'], int) else None))
    return images
