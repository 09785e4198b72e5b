"""Recognizes layouts that are not supported, to tell the user how to export the data in a supported layout."""
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mae_backbone.formats.files import peek

_NUM_ENTRIES = 2000  # maximum number of entries of a folder that are examined


def describe_layout(root: str) -> str:
    """Returns a text with the layout that a folder seems to have and what to do; '' if no layout is recognized."""
    folder = Path(root)
    if not folder.is_dir():
        return ''
    for detect, description in _LAYOUTS:
        if detect(folder):
            return f'{root} seems to have the layout of {description}'
    return ''


def _entries(folder: Path, pattern: str) -> Iterator[Path]:
    return itertools.islice(folder.glob(pattern), _NUM_ENTRIES)


def _is_supervisely(folder: Path) -> bool:
    """True if there is a meta.json with classes, and a folder `ann` next to a folder `img`."""
    for path in itertools.islice(_entries(folder, '**/meta.json'), 5):
        try:
            content = json.loads(peek(path))
        except ValueError:
            continue
        if isinstance(content, dict) and isinstance(content.get('classes'), list) and any(
                os.path.isdir(ann.parent / 'img') for ann in _entries(path.parent, '**/ann')):
            return True
    return False


def _is_cvat_video(folder: Path) -> bool:
    return any('<annotations>' in text and '<track ' in text for text in map(peek, _entries(folder, '*.xml')))


_LAYOUTS: tuple[tuple[Callable[[Path], bool], str], ...] = (
    (_is_supervisely, 'Supervisely (meta.json, ann/, img/), which is not read: export the project from Supervisely '
                      'with the app "Export to COCO", and pass the exported folder with --data-root DIR'),
    (_is_cvat_video, 'CVAT for video (an XML file with tracks), which is not read: export the task from CVAT as "CVAT '
                     'for images 1.1" or "COCO 1.0", and pass the exported folder with --data-root DIR'),
)
