"""Labeled images for classification: class folders with or without splits, and CSV lists of file names and classes."""
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layout_cache import no_training_split
from mae_backbone.formats.layouts.class_tree import classes_of_folders
from mae_backbone.formats.layouts.csv_boxes import (
    COLUMNS,
    CORNERS,
    PATTERNS,
    Row,
    columns_of,
    find_image,
    header_of,
    read_rows,
    read_values,
    row_split,
)
from mae_backbone.formats.layouts.image_index import ImageIndex
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES, Findings, note_shared_groups, split_in_path
from mae_backbone.formats.layouts.layout import first_files, label_files, refuse_faulty_files
from mae_backbone.formats.layouts.map_pairs import refuse_folders_of_maps
from mae_backbone.formats.messages import case_hint, first_few
from mae_backbone.utils.printable import printable

EXPECTED_COLUMNS = ('filename and label for a class of each image, or filename, xmin, ymin, xmax, ymax and class for '
                    'boxes')
_NUM_LINES = 200  # lines that are read to recognize columns of 0 and 1
_MARKS = ('0', '1', '0.0', '1.0')
_MAX_COLUMNS = 12  # largest number of columns that a message names
# Names of columns that describe a box. A position is a part of a box only if the file also has sizes.
_BOX_COLUMNS = {'bbox', 'box', *(name for corner in CORNERS for name in COLUMNS[corner])}
_POSITIONS = {'x', 'y', 'x0', 'y0', 'x_center', 'y_center', 'xcenter', 'ycenter', 'center_x', 'center_y', 'cx', 'cy',
              'xc', 'yc', 'bbox_x', 'bbox_y'}
_SIZES = {'w', 'h', 'width', 'height', 'bbox_w', 'bbox_h', 'bbox_width', 'bbox_height'}


class ClassImage(NamedTuple):
    """An image with its class: path relative to the root, with '/'."""

    image: str
    name: str
    split: str = ''
    group: str = ''


@dataclass
class ClassSet:
    """Images with a class each.

    Attributes:
        root: folder that the paths are relative to.
        layout: name of the layout.
        images: all images.
        left_out: data that are not read.
        notes: data that are read in another way than a user may expect.
    """

    root: Path
    layout: str
    images: list[ClassImage]
    left_out: Findings = field(default_factory=Findings)
    notes: Findings = field(default_factory=Findings)

    @property
    def names(self) -> list[str]:
        """Sorted class names."""
        return sorted({image.name for image in self.images})

    def lines(self) -> list[str]:
        """Describes the set for the plan."""
        splits = Counter(image.split or 'without split' for image in self.images)
        by_split = ', '.join(f'{count:,} {split}' for split, count in splits.items())
        return [f'layout: {self.layout} in {self.root}: {len(self.images):,} images ({by_split}) of {len(self.names)} '
                f'classes ({first_few(self.names)})', *(f'layout: {line}' for line in self.notes.lines()),
                *(f'layout: left out: {line}' for line in self.left_out.lines())]


def find_class_images(root: Path) -> ClassSet | None:
    """Reads CSV files with columns of a file name and a class, or else class folders.

    Class folders are found by `classes_of_folders`.

    Returns:
        None if there are none.

    Raises:
        DataError: a line names no image or no class, an image has two classes, or the folders have images and label
            maps.
    """
    files = label_files(root, PATTERNS, is_class_list)
    if files:
        return _of_lists(root, files)
    found = _of_folders(root)
    if found is None:
        _refuse_other_boxes(root)
    return found


def is_class_list(path: Path) -> bool:
    """True if a CSV file has columns of an image and a class, or of an image and marks of classes, but no boxes."""
    header = peek(path).splitlines()[:1]
    if _has_boxes(header_of(header)):
        return False
    return {'image', 'label'} <= columns_of(header).keys() or marked_classes(path) == {1}


def marked_classes(path: Path) -> set[int]:
    """Numbers of ones in the first lines of a CSV file with a column of an image and columns of 0 and 1.

    It is {1} for a class per image, and has larger numbers for several. Empty for files with other columns.
    """
    try:
        rows = [row for row in csv.reader(peek(path).splitlines()[:_NUM_LINES], skipinitialspace=True) if row]
    except csv.Error:
        return set()
    if len(rows) < 2 or len(rows[0]) < 3 or 'image' not in columns_of([','.join(rows[0][:1])]):
        return set()
    complete = [row[1:] for row in rows[1:] if len(row) == len(rows[0])]
    if not all(value.strip() in _MARKS for row in complete for value in row):
        return set()
    return {int(sum(map(float, row))) for row in complete}


def _has_boxes(names: Sequence[str]) -> bool:
    """True if some columns describe a box."""
    return not _BOX_COLUMNS.isdisjoint(names) or not (_POSITIONS.isdisjoint(names) or _SIZES.isdisjoint(names))


def columns_text(names: Sequence[str]) -> str:
    """Joins names of columns for a message, shortened if there are many or long ones."""
    shown = [printable(name[:40]) for name in names[:_MAX_COLUMNS]]
    return ', '.join(shown + ['...'] * (len(names) > _MAX_COLUMNS)) or 'empty'


def _refuse_other_boxes(root: Path) -> None:
    """Refuses CSV files with boxes that are not given as four corners, as centers and sizes."""
    for path in (path for pattern in PATTERNS for path in first_files(root, pattern)):
        header = peek(path).splitlines()[:1]
        columns, names = columns_of(header).keys(), header_of(header)
        if {'image', 'label'} <= columns and _has_boxes(names) and not set(CORNERS) <= columns:
            raise DataError(f'{path} seems to have boxes: its columns are {columns_text(names)}; '
                            f'expected {EXPECTED_COLUMNS}. Write the corners of the boxes in pixels')


def _of_lists(root: Path, files: list[Path]) -> ClassSet:
    left_out, notes = Findings(), Findings()
    index = ImageIndex(root, notes)
    images: dict[str, ClassImage] = {}
    refuse_faulty_files(root, PATTERNS)
    for path in files:
        folder = path.parent.relative_to(root).as_posix().removeprefix('.')
        file_split = SPLIT_NAMES.get(path.stem.lower(), '')
        for row in _class_rows(path):
            image = find_image(index, row, path, folder, file_split)
            if not row['label'] or '\t' in row['label']:
                raise DataError(f'{row.place}: the class is {row["label"]!r:.40}: name it, or remove the line')
            entry = ClassImage(image, row['label'], row_split(row, file_split) or split_in_path(image),
                               row.get('group', ''))
            if images.setdefault(image, entry) != entry:
                raise DataError(f'{row.place}: {image} is listed with another class or split before: keep one line')
    for name in sorted({*index.names} - images.keys()):
        left_out.add('images that no CSV file names', name)
    note_shared_groups(images.values(), notes)
    return ClassSet(root, 'CSV with classes', list(images.values()), left_out, notes)


def _class_rows(path: Path) -> Iterator[Row]:
    """Yields the lines of a list of classes, with the class in `label`. Raises DataError for a line of several."""
    header = peek(path).splitlines()[:1]
    if 'label' in columns_of(header):
        yield from read_rows(path)
        return
    names = [name.strip() for name in next(csv.reader(header, skipinitialspace=True))]
    for values in read_values(path):
        if len(values) != len(names) or not all(value in _MARKS for value in values[1:]):
            raise DataError(f'{values.place}: expected the name of an image, and 0 or 1 for each of the '
                            f'{len(names) - 1} classes in the first line')
        marked = [name for name, value in zip(names[1:], values[1:], strict=True) if float(value)]
        if len(marked) != 1:
            raise DataError(f'{values.place}: {len(marked)} classes are marked by 1 ({first_few(marked)}), expected '
                            'one. Several classes of an image (multi-label) are not supported')
        row = Row(image=values[0], label=marked[0])
        row.place = values.place
        yield row


def _of_folders(root: Path) -> ClassSet | None:
    left_out, images = Findings(), []
    refuse_folders_of_maps(root)
    for image, (name, split) in classes_of_folders(ImageIndex(root).names).items():
        if name:
            images.append(ClassImage(image, name, split))
        else:
            left_out.add('images in no class folder', image)
    return ClassSet(root, 'class folders', images, left_out) if len({image.name for image in images}) > 1 else None


def check_classes(found: ClassSet) -> None:
    """Raises DataError for data without a training split, or with classes that have images only in other splits."""
    trained = {image.name for image in found.images if image.split == 'train'}
    if found.images and not trained:
        raise DataError(no_training_split(str(found.root)))
    unknown = sorted({image.name for image in found.images} - trained)
    if unknown:
        raise DataError(f'{found.root}: {len(unknown)} classes have no image in the training split '
                        f'({first_few(unknown)}): correct the names, or remove these images'
                        f'{case_hint(trained, unknown)}')
