"""Checks the fields of an annotation file in COCO's format, their types and references."""
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from mae_backbone.formats.coco_json import image_file
from mae_backbone.formats.coco_masks import is_finite
from mae_backbone.formats.coco_objects import Id
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.messages import first_few

# Fields that CocoDataset of mmdet and pycocotools require.
_FIELDS = {'images': ('id', 'file_name', 'width', 'height'),
           'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
           'categories': ('id', 'name')}


def validated(path: str, content: Any) -> tuple[dict, int]:
    """Checks the content of an annotation file, and sets `file_name` of images that have only a URL, in place.

    Args:
        path: path of the file, for messages.
        content: parsed JSON.

    Returns:
        The content, and the number of images that have only a URL.

    Raises:
        DataError: the content is not in COCO's format, or contradicts itself.
    """
    checked = _with_lists(path, content)
    num_images_by_url = _fill_file_names(checked['images'])
    for key in _FIELDS:
        _check_entries(path, key, checked.get(key, []))
    _check_references(path, checked)
    return checked, num_images_by_url


def _with_lists(path: str, content: Any) -> dict:
    """Returns the content of a file if it has the lists of COCO's format."""
    contains = f'the keys {first_few(content) or "(none)"}' if isinstance(content, dict) else (
        f'a {type(content).__name__}')
    for key in ('images', 'categories'):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f'{path} has no list {key!r}, it contains {contains}: expected COCO\'s format, an object '
                            'with the lists images, annotations and categories')
        if not content[key]:
            raise DataError(f'{path}: the list {key!r} is empty: expected at least one entry')
    return content


def _fill_file_names(images: list) -> int:
    """Sets `file_name` of images that have only a URL. Returns their number."""
    by_url = [image for image in images
              if isinstance(image, dict) and 'file_name' not in image and image_file(image)]
    for image in by_url:
        image['file_name'] = image_file(image)
    return len(by_url)


def _check_entries(path: str, key: str, entries: Any) -> None:
    """Refuses entries of a list that lack a field or have a value of the wrong type."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f'{path}: {key!r} contains something other than objects: expected a list of objects with '
                        f'{", ".join(_FIELDS[key])}')
    for name in _FIELDS[key]:
        advice = ('add it, width * height of the box if there is no mask' if name == 'area' else
                  'add them, or remove these entries')
        _refuse(path, key, entries, [entry for entry in entries if name not in entry], f'have no {name!r}', advice)
        wrong = [entry for entry in entries if not _VALID[name](entry[name])]
        _refuse(path, key, entries, wrong, f'have a {name!r} that is not {_EXPECTED[name]}', 'correct or remove them',
                show=name)
    if key == 'annotations':
        wrong = [entry for entry in entries if entry.get('iscrowd', 0) not in (0, 1)]
        _refuse(path, key, entries, wrong, "have an 'iscrowd' that is neither 0 nor 1", 'correct them', show='iscrowd')
    repeated = [number for number, count in Counter(entry['id'] for entry in entries).items() if count > 1]
    if repeated:
        raise DataError(f'{path}: {len(repeated)} ids in {key!r} occur more than once ({first_few(repeated)}): '
                        'give every entry a unique id')
    if key == 'categories':
        _check_category_names(path, entries)


def _check_category_names(path: str, categories: Sequence[dict]) -> None:
    """Refuses a class name that two categories share: mmdet and the metric would mix them up."""
    ids: dict[str, list[Id]] = defaultdict(list)
    for category in categories:
        ids[category['name'].strip()].append(category['id'])
    repeated = {name: numbers for name, numbers in ids.items() if len(numbers) > 1}
    if repeated:
        examples = first_few(f'{name!r} with the ids {" and ".join(map(str, numbers))}'
                             for name, numbers in repeated.items())
        raise DataError(f'{path}: {len(repeated)} names occur in more than one category ({examples}): give every '
                        'category a unique name, or merge these categories')


def _check_references(path: str, content: dict) -> None:
    annotations = content.get('annotations', [])
    for name, key in (('image_id', 'images'), ('category_id', 'categories')):
        known = {entry['id'] for entry in content[key]}
        _refuse(path, 'annotations', annotations, [entry for entry in annotations if entry[name] not in known],
                f'refer to {key} that the file does not list', f'add these {key}, or remove these annotations',
                show=name)


def _refuse(path: str, key: str, entries: Sequence[dict], wrong: Sequence[dict], fault: str, advice: str, *,
            show: str = 'id') -> None:
    if wrong:
        examples = first_few(f'{show} {entry.get(show)!r:.60}' for entry in wrong)
        raise DataError(f'{path}: {len(wrong):,} of {len(entries):,} {key} {fault} ({examples}): {advice}')


def _is_id(value: object) -> bool:
    """True for text, and for integers of 64 bits, which pycocotools can store."""
    return isinstance(value, str) or (type(value) is int and -2**63 <= value < 2**63)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ''


def _is_length(value: Any) -> bool:
    return is_finite(value) and value > 0


def _is_box(value: object) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value))


_VALID: dict[str, Callable[[object], bool]] = {
    'id': _is_id, 'image_id': _is_id, 'category_id': _is_id, 'file_name': _is_text, 'name': _is_text,
    'width': _is_length, 'height': _is_length, 'area': is_finite, 'bbox': _is_box}
_EXPECTED = {'id': 'an integer or text', 'image_id': 'an integer or text', 'category_id': 'an integer or text',
             'file_name': 'text', 'name': 'text', 'width': 'a positive number', 'height': 'a positive number',
             'area': 'a finite number', 'bbox': 'a list of four finite numbers (x, y, width, height)'}
