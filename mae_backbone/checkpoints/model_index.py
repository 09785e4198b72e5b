"""Public weights by name: where they come from, their license and checksum, and where they lie on this machine."""
import difflib
import hashlib
import json
import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from mae_backbone.checkpoints.reading import CheckpointError

FOLDERS = 'MAE_BACKBONE_WEIGHTS'  # environment variable: folders of weights, separated as in PATH


class PublicWeights(NamedTuple):
    """An entry of `model_index.json`.

    Attributes:
        name: what `--pretrained` takes.
        url: of the file. Nothing is downloaded by this package.
        page: that describes the weights.
        license: of the weights; None if the page states none for them.
        arch: a name in `mae_backbone.core.vit.ARCHS`.
        patch_size, image_size: in pixels, of the training.
        layout: of the file.
        pretraining: method and data.
        timm: name of the model in timm for `TimmViT`; None if timm has none.
        md5, sha256: digits that the checksum begins with, as the publisher states them; None if it does not.
    """

    name: str
    url: str
    page: str
    license: str | None
    arch: str
    patch_size: int
    image_size: int
    layout: str
    pretraining: str
    timm: str | None
    md5: str | None
    sha256: str | None

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition('/')[2]


@lru_cache
def public_weights() -> dict[str, PublicWeights]:
    """All entries by name."""
    text = files('mae_backbone.checkpoints').joinpath('model_index.json').read_text(encoding='utf-8')
    return {entry['name']: PublicWeights(**entry) for entry in json.loads(text)}


def weights_folders() -> list[Path]:
    """Searched folders: the folders of MAE_BACKBONE_WEIGHTS, then the download folder of torch.hub."""
    own = [Path(folder).expanduser() for folder in os.environ.get(FOLDERS, '').split(os.pathsep) if folder]
    # As torch.hub.get_dir, without importing torch.
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    home = os.environ.get('TORCH_HOME') or os.path.join(cache, 'torch')
    return [*own, Path(home).expanduser() / 'hub' / 'checkpoints']


def find_file(entry: PublicWeights) -> Path | None:
    """The file of public weights in one of the folders; None if it is in none."""
    return next((folder / entry.file for folder in weights_folders() if (folder / entry.file).is_file()), None)


def resolve(path: str | Path) -> Path:
    """A path as it is, or the file of the public weights that it names. A file or folder of that name comes first.

    Raises:
        FileNotFoundError: the weights are known and not on this machine, or a word is neither a file nor a known name.
        CheckpointError: the file has not the checksum that its publisher states.
    """
    path, name = Path(path), str(path)
    if path.exists() or path.suffix or path.name != name:
        return path
    entry = public_weights().get(name)
    if entry is None:
        similar = difflib.get_close_matches(name, public_weights(), n=3)
        raise FileNotFoundError(f'{name} is neither a file or folder nor the name of public weights'
                                + (f': did you mean {" or ".join(similar)}?' if similar else '')
                                + ' `mae-backbone models` lists the names')
    file = find_file(entry)
    if file is None:
        own = os.environ.get(FOLDERS)
        place = f'Put it into {own}' if own else f'Put it into a folder, and set {FOLDERS} to that folder'
        raise FileNotFoundError(f'{name} is not on this machine: no {entry.file} in '
                                f'{", ".join(map(str, weights_folders()))}. Get it from {entry.url} (license: '
                                f'{entry.license or "see " + entry.page}). {place}')
    check_sum(file, entry)
    return file


def check_sum(file: Path, entry: PublicWeights) -> None:
    """Raises CheckpointError if a file has not the checksum of its entry; does nothing if the entry has none."""
    for kind, stated in (('md5', entry.md5), ('sha256', entry.sha256)):
        if stated is None:
            continue
        found = _digest(file, kind)
        if not found.startswith(stated):
            raise CheckpointError(f'{file} is not the published file of {entry.name}: its {kind} is {found}, and not '
                                  f'{stated}{"..." if len(stated) < len(found) else ""}. Download it again from '
                                  f'{entry.url}, or pass the path of the file if you mean it')


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)  # md5 is not available otherwise where FIPS is on
    with open(file, 'rb') as content:
        while block := content.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
