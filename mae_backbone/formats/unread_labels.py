"""Describes files and folders that look like labels and that no layout reads, with what was expected."""
from collections.abc import Iterator
from pathlib import Path

from mae_backbone.data.files import IMAGE_SUFFIXES
from mae_backbone.formats.files import peek, text_fault
from mae_backbone.formats.layouts.class_lists import (
    EXPECTED_COLUMNS,
    columns_text,
    header_of,
    is_class_list,
    marked_classes,
)
from mae_backbone.formats.layouts.folder_names import PROJECT_FOLDERS
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES
from mae_backbone.formats.layouts.layout import first_files
from mae_backbone.formats.messages import first_few
from mae_backbone.utils.printable import printable

_MAX_FILES = 3
_UNKNOWN = 'they are in no layout of labels that is known for these images'
# Kind of files -> patterns, and what is said of files that are text.
_KINDS = {
    'JSON': (('*.json', '*/*.json', '*.jsonl', '*/*.jsonl'), _UNKNOWN), 'XML': (('*.xml', '*/*.xml'), _UNKNOWN),
    'TXT': (('labels/*.txt', 'labels/*/*.txt', '*/labels/*.txt'),
            'expected lines of YOLO: the number of a class, and x, y, width and height as fractions of the image')}
_IMAGE_FOLDERS = ('images', 'image', 'imgs', 'img')  # folders that group images without being a class


def unread_labels(root: Path) -> list[str]:
    """Returns a line for each CSV file, and each kind of other files and class folders, of which no label is read.

    Call it only for a folder in which no layout of labels was found. It reads the first lines of a few files.
    """
    lines = unread_tables(root)
    for kind, (patterns, expected) in _KINDS.items():
        paths = [path for pattern in patterns for path in first_files(root, pattern)]
        if paths:
            names = first_few([path.relative_to(root).as_posix() for path in paths])
            faults = (f'{printable(path.name)} {fault}' for path in paths if (fault := text_fault(path)))
            lines.append(f'{kind} files were not used ({names}): {next(faults, expected)}')
    return [*lines, *_class_folders(root)]


def unread_tables(root: Path) -> list[str]:
    """Returns a line for each of the first CSV files, of which no label is read."""
    tables = [path for pattern in ('*.csv', '*/*.csv') for path in first_files(root, pattern)]
    return [_table(path, root) for path in tables[:_MAX_FILES]]


def _table(path: Path, root: Path) -> str:
    name, text = printable(path.relative_to(root).as_posix()), peek(path)
    if '\0' in text or '\ufffd' in text[:1000]:
        return f'{name} was not used: it is not text in UTF-8. Save it again as CSV in UTF-8'
    columns = columns_text(header_of(text.splitlines()[:1]))
    if is_class_list(path):
        return f'{name} has a class of each image, and no boxes'
    if max(marked_classes(path), default=0) > 1:
        return (f'{name} was not used: it marks several classes of an image (multi-label), which is not supported; '
                'expected one')
    return f'{name} was not used: its columns are {columns}; expected {EXPECTED_COLUMNS}'


def _class_folders(root: Path) -> Iterator[str]:
    """Yields lines about class folders of a single class, and about class folders that have the name of a split."""
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith('.')}
    splits = [name for name in folders if name.lower() in SPLIT_NAMES]
    others = [name for name in folders if name not in splits and name.lower() not in _IMAGE_FOLDERS
              and _has_images(folders[name])]
    inner = sorted({path.name for name in splits for path in folders[name].iterdir() if path.is_dir()
                    and path.name.lower() not in _IMAGE_FOLDERS and _has_images(path)})
    if len(inner) == 1:
        yield (f'{splits[0]}/{printable(inner[0])} was not used as a class: it is the only class folder, expected two '
               'or more. Add images of another class, such as the background')
    if others and any(_has_images(folders[name]) for name in splits):
        yield (f'the folders {first_few([*others, *splits])} were not used as classes, because {first_few(splits)} is '
               'the name of a split: rename it if it is a class')
    projects = [name for name in others if name.lower() in PROJECT_FOLDERS]
    if projects and len(others) > 1:
        yield (f'the folders {first_few(others)} were not used as classes, because folders of results or documents '
               f'have such names ({first_few(projects)}): rename them if they are classes')


def _has_images(folder: Path) -> bool:
    """True if an image is directly in a folder."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in first_files(folder, '*'))
