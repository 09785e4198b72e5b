"""Text files under a folder, found by the image that they label, as in YOLO's layout."""
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from mae_backbone.data.files import ImageWalk
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.folder_names import IMAGE_FOLDERS, LABEL_FOLDERS
from mae_backbone.formats.layouts.labeled_set import Findings
from mae_backbone.formats.messages import first_few
from mae_backbone.formats.names import name_key

_NAME_FILES = ('classes', 'labels', 'obj', 'train', 'val', 'valid', 'test')  # lists of names or images, not labels


class LabelTexts:
    """All text files under a root, without regard to upper and lower case, and to the Unicode form of accents.

    Args:
        root: the folder.
        images: all images, relative to the root, with '/'.
        notes: receives the label files that are found by their name, in a folder of another name than usual.
    """

    def __init__(self, root: Path, images: Sequence[str], notes: Findings) -> None:
        self.root = root
        self._notes = notes
        self.names = [name.replace(os.sep, '/') for name in ImageWalk(root, ('.txt',))]
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_rest: dict[tuple[str, ...], list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._num_images = Counter(_stem(name) for name in images)
        for name in self.names:
            self._by_path[name_key(name)].append(name)
            self._by_rest[_rest(name)].append(name)
            self._by_stem[_stem(name)].append(name)

    def of(self, image: str) -> str:
        """Returns the label file of an image, relative to the root; '' if there is none.

        It is in `labels` in place of the last `images` of the path, next to the image, or in a folder of another name
        for labels. Otherwise it is the only label file with the name of the image, if no other image has it.

        Raises:
            DataError: several folders have a label file of this image.
        """
        for path in _usual_paths(image):
            if matches := self._by_path.get(name_key(path)):
                return path if path in matches else matches[0]
            if path.startswith('../') and (self.root / path).is_file():  # a folder that data.yaml names
                return path
        matches = self._by_rest.get(_rest(image), [])
        if len(matches) > 1:
            raise DataError(f'{self.root}: {image} has several label files ({first_few(matches)}): keep one folder of '
                            'labels')
        if matches:
            return matches[0]
        others = self._by_stem.get(_stem(image), [])
        if len(others) == 1 and self._num_images[_stem(image)] == 1 and _may_label(self.root / others[0]):
            self._notes.add('label files found by their name, in another folder than usual', f'{image} -> {others[0]}')
            return others[0]
        return ''

    def unused(self, used: Iterable[str]) -> Iterator[str]:
        """Yields label files that are not in `used`. Other text files, such as lists of classes, are left out."""
        for name in sorted({*self.names} - {*used}):
            is_labels = not {*map(name_key, PurePosixPath(name).parts[:-1])}.isdisjoint(LABEL_FOLDERS)
            if PurePosixPath(name).stem.lower() not in _NAME_FILES and (is_labels or has_label(self.root / name)):
                yield name


def has_label(path: Path) -> bool:
    """True if the first line of a text file is a class number and at least four numbers in 0..1."""
    try:
        label, *numbers = peek(path).lstrip().partition('\n')[0].split()
        return label.isdecimal() and len(numbers) >= 4 and all(0 <= float(value) <= 1 for value in numbers)
    except ValueError:
        return False


def _may_label(path: Path) -> bool:
    """True if a text file has a label, or is empty as for a background image."""
    return not peek(path).strip() or has_label(path)


def _usual_paths(image: str) -> Iterator[str]:
    stem = os.path.splitext(image)[0]
    head, found, tail = f'/{stem}'.rpartition('/images/')
    if found:
        yield f'{head}/labels/{tail}.txt'.lstrip('/')
    folder, name = os.path.split(stem)
    yield f'{stem}.txt'
    yield os.path.join(folder, 'labels', f'{name}.txt')
    yield os.path.join(os.path.dirname(folder), 'labels', f'{name}.txt')


def _rest(path: str) -> tuple[str, ...]:
    """Folders of a path that are not named for images or labels, and its stem: equal for an image and its labels."""
    *parents, _ = PurePosixPath(name_key(path)).parts
    return (*(parent for parent in parents if parent not in IMAGE_FOLDERS | LABEL_FOLDERS), _stem(path))


def _stem(path: str) -> str:
    return name_key(PurePosixPath(path).stem)
