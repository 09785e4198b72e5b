"""Images under a folder, found by the names that label files state."""
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from mae_backbone.data.files import ImageWalk
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import ALLOW_OUTSIDE
from mae_backbone.formats.image_headers import StoredSize, read_sizes
from mae_backbone.formats.messages import first_few


class ImageIndex:
    """All images under a root, by name without regard to upper and lower case.

    Attributes:
        root: the folder.
        names: paths of the images relative to the root, with '/', sorted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = [name.replace(os.sep, '/') for name in ImageWalk(root)]
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            path = PurePosixPath(name.lower())
            self._by_path[str(path)].append(name)
            self._by_name[path.name].append(name)
            self._by_stem[path.stem].append(name)

    def find(self, stated: str, *, folders: Sequence[str] = ('',)) -> str:
        """Returns the image that a label file names; '' if there is none.

        The stated path is looked for in each of the folders, then the file name in all folders if it is unique.

        Args:
            stated: name or path, with '/' or '\\'.
            folders: folders relative to the root, in the order of their precedence.
        """
        stated = stated.replace('\\', '/').strip()
        for folder in folders:
            path = os.path.normpath(os.path.join(folder, stated)).replace(os.sep, '/')
            matches = self._by_path.get(path.lower(), [])
            if path in matches or len(matches) == 1:
                return path if path in matches else matches[0]
        name = PurePosixPath(stated).name
        matches = self._by_name.get(name.lower(), [])
        exact = [match for match in matches if PurePosixPath(match).name == name] or matches
        return exact[0] if len(exact) == 1 else ''

    def find_stem(self, stem: str, *, folders: Sequence[str] = ('',), suffix: str = '', place: str = '') -> str:
        """Returns the image with a name without suffix in one of the folders; '' if there is none.

        Args:
            stem: file name without suffix.
            folders: folders relative to the root, in the order of their precedence.
            suffix: preferred suffix, if there are images with several.
            place: label file, for the message.

        Raises:
            DataError: several images of a folder have this stem.
        """
        stem_matches = self._by_stem.get(stem.lower(), [])
        for folder in folders:
            matches = [name for name in stem_matches if os.path.dirname(name) == folder.strip('/')]
            matches = [name for name in matches if PurePosixPath(name).stem == stem] or matches
            preferred = [name for name in matches if name.lower().endswith(suffix.lower())] if suffix else matches
            if len(preferred or matches) > 1:
                raise DataError(f'{place or stem}: several images have this name ({first_few(matches)}): rename or '
                                'remove all but one')
            if matches:
                return (preferred or matches)[0]
        return ''

    def sizes(self, names: Iterable[str]) -> dict[str, StoredSize]:
        """Reads the sizes of images from their headers. Raises DataError if some cannot be read."""
        names = list(dict.fromkeys(names))
        by_path = read_sizes('images', [os.path.join(self.root, name) for name in names])
        return dict(zip(names, by_path.values(), strict=True))


def inside(root: Path, path: str, place: str) -> str:
    """Resolves a path that a file states, relative to the root. Returns the absolute path.

    Raises:
        DataError: the path leaves the root, and the environment variable `ALLOW_OUTSIDE` does not allow it.
    """
    top = os.path.abspath(root)
    absolute = os.path.normpath(os.path.join(top, path))
    if absolute != top and not absolute.startswith(os.path.join(top, '')) and not os.environ.get(ALLOW_OUTSIDE):
        raise DataError(f'{place} names {path}, which is outside of the data root {root}: correct it. If you trust the '
                        f'file, set the environment variable {ALLOW_OUTSIDE}=1')
    return absolute


def stated_size(stored: StoredSize, stated: tuple[float, float] | None, place: str, image: str) -> tuple[int, int]:
    """Size of an image in pixels: as its labels state it if that is right, else from its header.

    Labels that fit the image as it is stored, without its EXIF orientation, keep that size. The check of the data set
    then reports them, with advice.

    Raises:
        DataError: the labels were made for an image of another size.
    """
    if stated is None or not 1 <= min(stated) <= max(stated) < 2**31:
        return stored.upright
    size = int(stated[0]), int(stated[1])
    if size in (stored.upright, (stored.width, stored.height)):
        return size
    raise DataError(f'{place} states {size[0]}x{size[1]} pixels, but {image} has {stored.upright[0]}x'
                    f'{stored.upright[1]}: labels would not fit. Restore the image that was labeled, or label this one')
