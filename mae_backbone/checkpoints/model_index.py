"""Index of public weights by name: URL, license, checksum, and their files on this machine."""
import difflib
import hashlib
import json
import os
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from mae_backbone.checkpoints.reading import CheckpointError

FOLDERS = 'MAE_BACKBONE_WEIGHTS'  # environment variable with folders of weights, separated as in PATH


class PublicWeights(NamedTuple):
    """An entry of `model_index.json`.

    Attributes:
        name: name for `--pretrained`.
        url: URL of the file. This package never downloads it.
        page: URL of the page that describes the weights.
        license: license of the weights; None if the page does not state one.
        arch: name of the architecture in `mae_backbone.core.vit.ARCHS`.
        patch_size, image_size: patch size and image size of the training in pixels.
        layout: layout of the file.
        pretraining: method and data of the pretraining.
        timm: name of the model in timm for `TimmViT`; None if timm does not have it.
        md5, sha256: first digits of the checksum, as the publisher states them; None if the publisher does not.
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
    """Returns all entries of the index by name."""
    text = files('mae_backbone.checkpoints').joinpath('model_index.json').read_text(encoding='utf-8')
    return {entry['name']: PublicWeights(**entry) for entry in json.loads(text)}


def weights_folders() -> list[Path]:
    """Returns the searched folders: the folders in MAE_BACKBONE_WEIGHTS, then the download folder of torch.hub."""
    own = [Path(folder).expanduser() for folder in os.environ.get(FOLDERS, '').split(os.pathsep) if folder]
    # Same folder as torch.hub.get_dir, without importing torch.
    cache = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    home = os.environ.get('TORCH_HOME') or os.path.join(cache, 'torch')
    return [*own, Path(home).expanduser() / 'hub' / 'checkpoints']


def find_file(entry: PublicWeights) -> Path | None:
    """Returns the file of public weights in one of the folders; None if no folder has it."""
    return next((folder / entry.file for folder in weights_folders() if (folder / entry.file).is_file()), None)


def resolve(path: str | Path) -> Path:
    """Returns the file of public weights if `path` is their name, otherwise `path`.

    An existing file or folder of this name takes precedence over public weights.

    Raises:
        FileNotFoundError: the public weights are not on this machine, or a name without suffix is neither a file nor
            the name of public weights.
        CheckpointError: the file does not have the checksum that its publisher states.
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
    """Raises CheckpointError if a file does not have the checksum of its entry. Entries may have no checksum."""
    for kind, stated in (('md5', entry.md5), ('sha256', entry.sha256)):
        if stated is None:
            continue
        found = _digest(file, kind)
        if not found.startswith(stated):
            raise CheckpointError(f'{file} is not the published file of {entry.name}: its {kind} is {found}, and not '
                                  f'{stated}{"..." if len(stated) < len(found) else ""}. Download it again from '
                                  f'{entry.url}, or pass the path of the file if you mean it')


def _digest(file: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)  # in FIPS mode, md5 is only available with this argument
    with open(file, 'rb') as content:
        while block := content.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
