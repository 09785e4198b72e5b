"""Imports a data set: reads it in any supported layout, and writes it in another layout."""
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mae_backbone.formats.coco_masks import mask_fault
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.inner_folder import inner_folder
from mae_backbone.formats.layout_cache import SPLIT_FILE, to_json
from mae_backbone.formats.layout_classes import split_images
from mae_backbone.formats.layout_maps import split_pairs
from mae_backbone.formats.layouts.class_lists import ClassSet, check_classes, find_class_images
from mae_backbone.formats.layouts.labeled_set import LabeledSet
from mae_backbone.formats.layouts.map_pairs import MapSet, find_map_pairs
from mae_backbone.formats.layouts.registry import read_layout
from mae_backbone.formats.layouts.splits import MadeSplit, make_validation
from mae_backbone.formats.messages import does_not_exist, first_few
from mae_backbone.formats.other_layouts import describe_layout
from mae_backbone.formats.unread_labels import unread_labels
from mae_backbone.formats.writers.boxes import write_coco, write_voc, write_yolo
from mae_backbone.formats.writers.destination import Destination
from mae_backbone.formats.writers.folders import classes_of_images, write_folders
from mae_backbone.formats.writers.maps import regions, write_map_pairs, write_objects_as_maps

_BOXES: dict[str, Callable[[LabeledSet, Destination], list[str]]] = {
    'coco': write_coco, 'yolo': write_yolo, 'voc': write_voc, 'labelmaps': write_objects_as_maps}
TARGETS = ('coco', 'labelmaps', 'folders', 'yolo', 'voc')
REPORT = 'import.txt'


class Imported(NamedTuple):
    """Report of an import."""

    lines: list[str]  # data that were read, and data that could not be converted
    next: list[str]   # next steps


def import_data(source: str | Path, out: str | Path, target: str, *, link: bool = False, pattern: str = '') -> Imported:
    """Reads a data set in any supported layout and writes it in another layout, with a report in `import.txt`.

    The output folder is renamed into place when it is complete.

    Args:
        source: folder of the data.
        out: output folder. It must not exist, or must be empty.
        target: one of `TARGETS`.
        link: make symbolic links to the source images instead of copies.
        pattern: regular expression that groups images if a validation split is made, see `make_validation`.

    Raises:
        DataError: the data cannot be read, or cannot be written in this layout.
    """
    root, out = Path(source), Path(out)
    if not root.is_dir():
        raise DataError(f'{does_not_exist(str(root)) if not root.exists() else f"{root} is a file"}: pass the folder '
                        'of the data set')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f'{out} exists and is not empty: choose another folder, or remove it')
    if root.resolve() in (out.resolve(), *out.resolve().parents):
        raise DataError(f'{out} is in the folder of the data {root}, where its images would be read again: choose a '
                        'folder outside of it')
    data = _read(root, target)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f'.{out.name}.part')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        to = Destination(partial, data.root, link=link)
        made, lines, following = _write(data, target, to, pattern)
        lines += [f'not carried over: {line}' for line in to.lost.lines()]
        if made:
            to.write(SPLIT_FILE, to_json(made.record, indent=1))
            lines.append(f'{made.line}; lists in {out / SPLIT_FILE}')
        to.write(REPORT, ''.join(f'{line}\n' for line in lines))
        if out.is_dir():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Imported(lines, [line.replace(str(partial), str(out)) for line in following])


def _read(root: Path, target: str) -> LabeledSet | MapSet | ClassSet:
    """Reads the data in the first layout that matches. Layouts that are most similar to the target are tried first.

    If none matches, the only folder with labels is read, such as data/ of a project, or else the only one with images.
    """
    readers: dict[str, Callable[[Path], LabeledSet | MapSet | ClassSet | None]] = dict(
        boxes=read_layout, maps=find_map_pairs, classes=find_class_images)
    order = {'labelmaps': ('maps', 'boxes'), 'folders': ('boxes', 'classes')}.get(target, ('boxes', 'maps'))
    folder: Path | None = root
    while folder is not None:
        for kind in order:
            data = readers[kind](folder)
            if isinstance(data, LabeledSet) and target in ('coco', 'yolo', 'labelmaps'):
                _check_masks(data)
            if data is not None:
                return data
        inner = inner_folder(folder)
        folder = inner.path if inner else None
    hint = describe_layout(str(root)) or '. '.join(unread_labels(root))
    raise DataError(f'{root} has no layout of labels that is known for --to {target}' + (f': {hint}' if hint else '')
                    + '. Read are Pascal VOC, YOLO, labelme, CVAT for images, VIA, Create ML, COCO, JSON Lines, CSV '
                      'lists, and label maps; for --to folders also class folders')


def _check_masks(labeled: LabeledSet) -> None:
    """Refuses segmentations that are no masks. Polygons of fewer than three points are left to the writers."""
    wrong = []
    for image in labeled.images:
        for item in image.objects:
            fault = '' if item.segmentation is None else mask_fault(item.segmentation, *image.size)
            if fault == 'misfit' or (fault == 'broken' and isinstance(item.segmentation, dict)):
                wrong.append(image.file_name if item.id is None else f'id {item.id} in {image.file_name}')
    if wrong:
        raise DataError(f'{labeled.root}: {len(wrong):,} objects have a segmentation that is not a mask of their image '
                        f'({first_few(wrong)}): expected a list of polygons [[x, y, ...], ...], or RLE whose size is '
                        'the height and width of the image and whose counts add up to all of its pixels. Correct or '
                        'remove them, or import the boxes only with --to voc')


def _write(data: LabeledSet | MapSet | ClassSet, target: str, to: Destination, pattern: str
           ) -> tuple[MadeSplit | None, list[str], list[str]]:
    """Returns the validation split that was made, lines of the report, and the next steps."""
    if isinstance(data, MapSet):
        made = split_pairs(data, pattern=pattern)
        if target == 'labelmaps':
            return made, data.lines(), write_map_pairs(data, to)
        data = regions(data)
    else:
        if isinstance(data, LabeledSet) and target == 'folders':
            data = classes_of_images(data, to.lost)
        made = split_images(data, pattern=pattern) if isinstance(data, ClassSet) else make_validation(
            data, pattern=pattern)
    if isinstance(data, ClassSet):
        check_classes(data)
        return made, data.lines(), write_folders(data, to)
    return made, data.lines(), _BOXES[target](data, to)
