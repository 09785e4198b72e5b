"""The encoders that a benchmark compares: files, runs with many of them, and random weights."""
import ast
import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mae_backbone.checkpoints.encoder import encoder_weights
from mae_backbone.checkpoints.reading import CheckpointError, read_content
from mae_backbone.checkpoints.state_dicts import weights_in
from mae_backbone.core.vit import ARCHS

_LOG = logging.getLogger(__name__)
RANDOM = 'random'


class Encoder(NamedTuple):
    """An encoder to be judged.

    `checkpoint` is None for random weights; `step` is how long it was pretrained, in `unit` 'epoch' or 'iter', where
    the name of the file tells; `reference` is whether others are compared with it.
    """

    name: str
    checkpoint: Path | None
    reference: bool
    step: int | None = None
    unit: str = ''

    @property
    def run(self) -> tuple[Path | None, str]:
        """What the checkpoints of one pretraining have in common: their folder; a file of another name is its own."""
        return self.checkpoint if self.step is None else self.checkpoint.absolute().parent, self.unit


def last_of_runs(encoders: Sequence[Encoder]) -> list[Encoder]:
    """The encoders to show where there is no room for all: the last one of each run, then the references."""
    judged = [encoder for encoder in encoders if not encoder.reference]
    last = {encoder.run: encoder for encoder in sorted(judged, key=lambda encoder: encoder.step or 0)}
    return ([encoder for encoder in judged if last[encoder.run] == encoder]
            + [encoder for encoder in encoders if encoder.reference])


def runs_of(encoders: Sequence[Encoder], unit: str) -> dict[str, list[Encoder]]:
    """The judged encoders whose length of pretraining in `unit` is known, by short names of their runs."""
    runs: dict[Path, list[Encoder]] = {}
    for encoder in encoders:
        if encoder.unit == unit and not encoder.reference:
            runs.setdefault(encoder.run[0], []).append(encoder)
    return dict(zip(_names(list(runs)), runs.values(), strict=True))


def find_encoders(checkpoints: Sequence[str], against: Sequence[str],
                  known: Mapping[Path, str] | None = None) -> list[Encoder]:
    """What --checkpoint and --against name, files as well as folders with the checkpoints of a run.

    Args:
        checkpoints: what is judged.
        against: what it is compared with.
        known: names that resolved paths had before: they keep them, so that what was found out about them counts.

    Raises:
        ValueError: a path at which there is none, or the same one twice.
    """
    files = [(path, reference) for reference, given in ((False, checkpoints), (True, against)) for name in given
             for path in _files(name, may_be_random=reference)]
    count = Counter(path and path.resolve() for path, _ in files)
    twice = [str(path or RANDOM) for path, number in count.items() if number > 1]
    if twice:
        raise ValueError(f'the same checkpoint is given twice: {", ".join(twice)}')
    names = _names([path and path.absolute() for path, _ in files], known)
    return [Encoder(name, path, reference, *_step(path)) for name, (path, reference) in zip(names, files, strict=True)]


def _files(name: str, *, may_be_random: bool) -> list[Path | None]:
    path = Path(name)
    if name == RANDOM and may_be_random:
        return [None]
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f'{name} is neither a checkpoint nor the folder of a run'
                         + ('; random weights go to --against' if name == RANDOM else ': check the path'))
    found = [file for file in path.glob('*.pth') if _step(file)[0] is not None]
    if not found:
        raise ValueError(f'{path} has no checkpoints epoch_N.pth or iter_N.pth: pass the work directory of a run of '
                         'tools/pretrain.py, or a file')
    return sorted(found, key=lambda file: _step(file)[0])


def _names(paths: Sequence[Path | None], known: Mapping[Path, str] | None = None) -> list[str]:
    """Short names that tell whole paths apart: the file alone, or with as many folders as that takes."""
    before = [known and path and known.get(path.resolve()) for path in paths]
    for folders in range(1, max([len(path.parts) for path in paths if path is not None], default=1) + 1):
        names = [old or (RANDOM if path is None else _name(path, folders))
                 for old, path in zip(before, paths, strict=True)]
        if len(set(names)) == len(names):
            return names
    return [str(path or RANDOM) for path in paths]  # such as a file X beside X.pth


def _name(path: Path, folders: int) -> str:
    return '/'.join(path.parts[-folders:]).removesuffix('.pth')


def _step(path: Path | None) -> tuple[int | None, str]:
    found = re.fullmatch(r'(epoch|iter)_(\d+)', path.stem) if path is not None else None
    return (int(found[2]), found[1]) if found else (None, '')


def file_fingerprint(path: Path) -> str:
    """Tells the content of a file from any other."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


class Architecture(NamedTuple):
    """What has to be known of an encoder to build it; `name` is that in `ARCHS`, if it has one."""

    name: str | None
    width: int
    depth: int
    heads: int
    patch_size: int
    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def backbone(self) -> dict:
        """As arguments of `ViTBackbone`."""
        return dict(arch=dict(width=self.width, depth=self.depth, heads=self.heads), patch_size=self.patch_size,
                    image_size=self.image_size, in_channels=self.in_channels)


# torchvision's usual values, for weights that do not say what they were trained with.
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def architecture_in(content: object, path: Path) -> Architecture:
    """The architecture of the ViT in a checkpoint: from its weights, and from the config that ours carry.

    The number of heads is not in the weights: without a config it is that of the architecture of the same width and
    depth, else one for each 64 channels (ViT paper, table 1), which is logged.

    Raises:
        CheckpointError: the file is no checkpoint or has no ViT.
    """
    weights, _ = encoder_weights(weights_in(content, path), path)
    patch, positions = weights['patch_embed.proj.weight'], weights.get('pos_embed')
    depth = len({name.split('.')[1] for name in weights if name.startswith('blocks.')})
    if positions is None or not depth:
        raise CheckpointError(f'{path} has no positions or no blocks of a ViT: pass a checkpoint of a ViT')
    width, patch_size = len(patch), patch.shape[-1]
    model = config_in(content).get('model', {})
    encoder = model.get('encoder') or model.get('backbone') or {}
    preprocessor = model.get('data_preprocessor') or {}
    channels = patch.shape[1]
    default = _IMAGENET if channels == 3 else ((127.5,) * channels, (63.75,) * channels)
    return Architecture(
        name=next((name for name, arch in ARCHS.items() if (arch.width, arch.depth) == (width, depth)), None),
        width=width, depth=depth, heads=_heads(encoder, width, depth, path), patch_size=patch_size,
        image_size=patch_size * _side(positions), in_channels=channels,
        mean=tuple(preprocessor.get('mean', default[0])), std=tuple(preprocessor.get('std', default[1])))


def read_architecture(path: Path) -> Architecture:
    """The same of a file, which is read once."""
    return architecture_in(read_content(path), path)


def _side(positions: Tensor) -> int:
    """pos_embed (1, 1 + h*w, D) -> the side of its square grid, or of the square of about as many patches."""
    return round(math.sqrt(positions.shape[1] - 1))


def _heads(encoder: dict, width: int, depth: int, path: Path) -> int:
    arch = encoder.get('arch')
    if isinstance(arch, dict) and isinstance(arch.get('heads'), int):
        return arch['heads']
    known = ARCHS[arch] if isinstance(arch, str) and arch in ARCHS else None
    known = known or next((arch for arch in ARCHS.values() if (arch.width, arch.depth) == (width, depth)), None)
    if known is not None:
        return known.heads
    _LOG.warning('%s does not say how many heads its attention has: taken to be %d, of 64 channels', path,
                 max(1, width // 64))
    return max(1, width // 64)


def config_in(content: object) -> dict:
    """The config that a checkpoint of ours carries as text, read without running it; {} where there is none."""
    meta = content.get('meta') if isinstance(content, dict) else None
    text = meta.get('cfg') if isinstance(meta, dict) else None
    return parse_config(text) if isinstance(text, str) else {}


def parse_config(text: str) -> dict:
    """The plain values at the top of a config in text style; what is no literal or dict(...) is left out."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    values = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = _literal(node.value)
            except (ValueError, RecursionError):
                continue
    return values


def _literal(node: ast.expr) -> object:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            raise ValueError('a call')
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords if keyword.arg}
    if isinstance(node, ast.Dict):
        return {_literal(key): _literal(value) for key, value in zip(node.keys, node.values, strict=True)}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)
