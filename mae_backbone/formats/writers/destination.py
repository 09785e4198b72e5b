"""Folder that a data set is written into: names of its images, links or copies, and the information that is lost."""
import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.labeled_set import Box, Findings, LabeledObject
from mae_backbone.utils.atomic_write import write_text


class Destination:
    """An output folder.

    Args:
        folder: folder to write into.
        root: folder of the source images.
        link: whether images become symbolic links to the source instead of copies.

    Attributes:
        lost: information that the format cannot store.
    """

    def __init__(self, folder: Path, root: Path, *, link: bool) -> None:
        self.folder, self.root, self.link = folder, root, link
        self.lost = Findings()

    def place(self, source: str | Path, name: str) -> None:
        """Links or copies a file of the source (relative to the root, or absolute) to a name in the folder.

        Raises:
            DataError: the file system has no links.
        """
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        original = os.path.abspath(os.path.join(self.root, source))
        if not self.link:
            shutil.copyfile(original, path)
            return
        try:
            path.symlink_to(original)
        except OSError as error:
            raise DataError(f'{path} cannot be a link ({error.strerror}): leave out --link, so that images are '
                            'copied') from error

    def write(self, name: str, text: str) -> None:
        """Writes a text file in the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text, errors='surrogateescape')


def unique_names(paths: Sequence[str]) -> dict[str, str]:
    """Returns a file name for each path; names without suffix are unique also where upper and lower case are the same.

    A file keeps its name if no other one has it. Otherwise the folders become part of the name.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for path in paths:
        stem = PurePosixPath(path).stem.casefold()
        counts[stem] = counts.get(stem, 0) + 1
    for path in sorted(paths):
        pure = PurePosixPath(path)
        name = pure.name
        if counts[pure.stem.casefold()] > 1:
            name = '_'.join([*pure.parts[:-1], pure.stem + pure.suffix.replace('.', '_') + pure.suffix])
        stem, suffix = os.path.splitext(name)
        number = 1
        while os.path.splitext(name)[0].casefold() in taken:
            number += 1
            name = f'{stem}_{number}{suffix}'
        taken.add(os.path.splitext(name)[0].casefold())
        names[path] = name
    return names


def clipped(box: Box, size: tuple[int, int]) -> Box | None:
    """Clips a box to its image; None if nothing is left."""
    left, top = max(0.0, box[0]), max(0.0, box[1])
    right, bottom = min(float(size[0]), box[0] + box[2]), min(float(size[1]), box[1] + box[3])
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def clip_object(labeled: LabeledObject, size: tuple[int, int], lost: Findings, place: str) -> Box | None:
    """Clips the box of an object and counts what is cut."""
    box = clipped(labeled.box, size)
    if box is None:
        lost.add('boxes outside of their image', place)
    elif max(abs(a - b) for a, b in zip(box, labeled.box, strict=True)) > 0.5:
        lost.add('parts of boxes beyond their image', place)
    return box
