"""Parses annotation files in COCO's format."""
import codecs
import hashlib
import json
import os
from collections.abc import Callable, Collection
from typing import Any

from mae_backbone.data.index import cache_folder
from mae_backbone.formats.coco_objects import Id
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.utils.atomic_write import write_bytes
from mae_backbone.utils.memory import available_memory

_SMALL = 2**26  # number of characters of a file below which its memory is not estimated
# Lower bound of the memory in bytes for each of these characters when CPython 3.11 parses JSON: a dict, a list, a
# number and its place in a list, and half of a string. The training set of COCO has 470 MB and needs 2.6 GB.
_BYTES_PER_CHARACTER = {'{': 184, '[': 64, ',': 24, '"': 16}


def without_byte_order_mark(path: str) -> str:
    """Returns the path of a file without a byte-order mark: the file itself, or a copy in the cache.

    `read_coco` reads JSON that starts with a byte-order mark, but mmdet and pycocotools do not.
    """
    try:
        with open(path, 'rb') as file:
            if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                return path
            content = file.read()
    except OSError:
        return path
    digest = hashlib.sha256(content).hexdigest()[:16]
    copy = cache_folder() / 'annotations' / f'{digest}_{os.path.basename(path)}'
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, content)
    return str(copy)


def read_content(path: str) -> dict:
    """Reads the JSON object of an annotation file that `read_coco` accepts."""
    content = parse(path, os.path.getsize(path))
    assert isinstance(content, dict), 'read_coco accepts objects only'
    return content


def read_annotations(path: str, image_ids: Collection[Id]) -> list[dict]:
    """Reads the annotations of some images in a file that `read_coco` accepts.

    The other annotations are not kept in memory.

    Args:
        path: path of the file.
        image_ids: ids of the images.
    """
    def keep(entry: dict) -> dict | None:
        is_other = 'bbox' in entry and entry.get('image_id') not in wanted
        return None if is_other else entry

    wanted = list(image_ids)
    content = parse(path, os.path.getsize(path), keep)
    return [annotation for annotation in content.get('annotations', []) if annotation is not None]


def image_file(image: dict) -> str | None:
    """Returns the file name of an entry of `images`.

    Images of LVIS have only `coco_url`. In this case the file name is the last folder and the name in the URL.
    """
    if 'file_name' in image or not isinstance(image.get('coco_url'), str):
        return image.get('file_name')
    return '/'.join(image['coco_url'].split('/')[-2:])


def parse(path: str, size: int, object_hook: Callable[[dict], dict | None] | None = None) -> Any:
    """Parses a JSON file.

    Args:
        path: path of the file.
        size: its size in bytes.
        object_hook: function that returns a replacement of each JSON object.

    Raises:
        DataError: the file is empty, truncated, not JSON, or needs more memory than is free.
    """
    if not size:
        raise DataError(f'{path} is empty (0 bytes): copy it again')
    text = ''
    try:
        with open(path, encoding='utf-8-sig') as file:  # some editors start files with a byte-order mark
            text = file.read()
        _check_memory(path, text)
        return json.loads(text, object_hook=object_hook)
    except UnicodeDecodeError as error:
        raise DataError(f'{path} is not JSON: byte {error.start} is not text: expected annotations in COCO\'s format, '
                        'uncompressed and in UTF-8') from error
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith('{') and not text.rstrip().endswith('}'):
            raise DataError(f'{path} is truncated after {size:,} bytes: copy it again') from error
        # The content is not shown: a config may name a file that does not hold annotations.
        if text.startswith('version https://git-lfs'):
            raise DataError(f'{path} is a pointer of Git LFS: run git lfs pull') from error
        raise DataError(f'{path} is not JSON ({error}): expected annotations in COCO\'s format') from error


def _check_memory(path: str, text: str) -> None:
    """Refuses a file whose content needs more memory than is free, before it is parsed."""
    if len(text) < _SMALL:
        return
    needed = sum(size * text.count(character) for character, size in _BYTES_PER_CHARACTER.items())
    if needed > available_memory():
        raise DataError(f'{path} would take about {needed / 1e9:.1f} GB of memory, and {available_memory() / 1e9:.1f} '
                        'GB are free: split it, or remove what is not needed')
