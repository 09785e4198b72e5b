"""Images under a folder, found by the names that label files state."""
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from mae_backbone.data.files import ImageWalk
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import ALLOW_OUTSIDE
from mae_backbone.formats.image_headers import StoredSize, read_sizes
from mae_backbone.formats.layouts.folder_names import IMAGE_FOLDERS, outside_projects
from mae_backbone.formats.layouts.labeled_set import SPLIT_NAMES, Findings
from mae_backbone.formats.messages import first_few
from mae_backbone.formats.names import name_key


class ImageIndex:
    """All images under a root, by name without regard to upper and lower case, and to the Unicode form of accents.

    Args:
        root: the folder.
        notes: receives the images that are found by their file names, in other folders than stated.

    Attributes:
        root: the folder.
        names: paths of the images relative to the root, with '/', sorted.
    """

    def __init__(self, root: Path, notes: Findings | None = None) -> None:
        self.root = root
        self._tops = [os.path.join(top, '').replace(os.sep, '/')
                      for top in (os.path.abspath(root), os.path.realpath(root))]
        self._notes = notes
        self._noted: set[str] = set()
        self._reasons: dict[str, str] = {}
        self.names = [name.replace(os.sep, '/') for name in ImageWalk(root)]
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            path = PurePosixPath(name_key(name))
            self._by_path[str(path)].append(name)
            self._by_name[path.name].append(name)
            self._by_stem[path.stem].append(name)

    def find(self, stated: str, *, folders: Sequence[str] = ('',)) -> str:
        """Returns the image that a label file names; '' if there is none, for the reason that `reason` returns.

        The stated path is looked for in each of the folders. Otherwise, the image is taken whose path has the longest
        common end with the stated path, if there is only one outside of folders such as results/, and if its other
        folders do not contradict the stated ones. Therefore files are found that were made on another machine, but not
        those of another folder.

        Args:
            stated: name or path, with '/' or '\\'.
            folders: folders relative to the root, in the order of their precedence.
        """
        stated_path = stated.replace('\\', '/').strip()
        inner = self._inside(stated_path)
        for folder in ('',) if inner else folders:
            path = os.path.normpath(os.path.join(folder, inner or stated_path)).replace(os.sep, '/')
            matches = self._by_path.get(name_key(path), [])
            if path in matches or len(matches) == 1:
                return path if path in matches else matches[0]
        wanted = PurePosixPath(inner or stated_path)
        matches = self._by_name.get(name_key(wanted.name), [])
        matches = [match for match in matches if PurePosixPath(match).name == wanted.name] or matches
        lengths = [_common_end(PurePosixPath(match), wanted) for match in matches]
        best = [match for match, length in zip(matches, lengths, strict=True) if length == max(lengths)]
        best = outside_projects(best) or best
        if len(best) == 1 and _agrees(best[0], wanted, folders):
            if max(lengths) == 1 and _folders(wanted) and stated not in self._noted and self._notes is not None:
                self._noted.add(stated)
                self._notes.add('images found by their file name, in another folder than stated',
                                f'{stated} -> {best[0]}')
            return best[0]
        if best:
            self._reasons[stated] = f'ambiguous: {first_few(best)}' if len(best) > 1 else (
                f'{best[0]} has this name, but is in another folder')
        return ''

    def get(self, stated: str, place: str, *, folders: Sequence[str] = ('',), what: str = 'line') -> str:
        """Returns the image that a label file names, as `find`.

        Args:
            stated: name or path.
            place: place in the label file, for the message.
            folders: folders relative to the root, in the order of their precedence.
            what: part of the label file that names the image, for the message.

        Raises:
            DataError: there is no such image.
        """
        image = self.find(stated, folders=folders)
        if not image:
            raise DataError(f'{place}: {stated!r:.80} is no image below {self.root}{self.reason(stated)}: add it, or '
                            f'remove the {what}')
        return image

    def _inside(self, path: str) -> str:
        """An absolute path as a path relative to the root; '' if it is not in the root."""
        return next((path[len(top):] for top in self._tops if path.startswith(top)), '')

    def reason(self, stated: str) -> str:
        """Returns the reason in parentheses why `find` did not take images of the same name; '' without such images."""
        return f' ({self._reasons[stated]})' if stated in self._reasons else ''

    def missing(self, names: Sequence[str], place: str = '') -> str:
        """Returns the text that images are missing, with the first names and reasons."""
        verb = 'are not found' if any(name in self._reasons for name in names) else 'do not exist'
        return f'{verb}{place} ({first_few(name + self.reason(name) for name in dict.fromkeys(names))})'

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
        stem_matches = self._by_stem.get(name_key(stem), [])
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


def _folders(path: PurePosixPath) -> list[str]:
    """Keys of the folders of a path (`name_key`); names of splits as ours, without years such as in train2017."""
    folders = [name_key(folder) for folder in path.parts[:-1] if folder not in ('/', '.', '..')]
    plain = [re.sub(r'[_-]?\d{4}$', '', folder) for folder in folders]
    return [SPLIT_NAMES.get(name, folder) for name, folder in zip(plain, folders, strict=True)]


def _common_end(path: PurePosixPath, other: PurePosixPath) -> int:
    """Number of last parts that two paths have in common."""
    pairs = zip(reversed(path.parts), reversed(other.parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: name_key(pair[0]) == name_key(pair[1]), pairs))


def _agrees(match: str, stated: PurePosixPath, folders: Sequence[str]) -> bool:
    """True if the folders of an image do not contradict the stated ones.

    Each of its folders below one of `folders` is stated, tells only that there are images, or names a split where none
    is stated.
    """
    words, splits = {*_folders(stated)}, {*SPLIT_NAMES.values()}
    if not words:
        return True
    own = _folders(PurePosixPath(match))
    stated_splits, own_splits = words & splits, splits & {*own}
    if stated_splits and own_splits and not stated_splits & own_splits:
        return False
    allowed = words | IMAGE_FOLDERS | (set() if stated_splits else splits)
    tops = {'', *(folder.strip('/') for folder in folders if match.startswith(f'{folder.strip("/")}/'))}
    return any({*_folders(PurePosixPath(match[len(top):].lstrip('/')))} <= allowed for top in tops)


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
