"""Encoders that are compared: checkpoint files, runs with several checkpoints, and random weights."""
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

RANDOM = 'random'


class Encoder(NamedTuple):
    """An encoder to evaluate.

    Attributes:
        name: short name, unique in the experiment.
        checkpoint: file with its weights; None for random weights.
        reference: True if other encoders are compared with it.
        step: length of the pretraining in `unit`, if the file name states it.
        unit: 'epoch', 'iter', or '' if unknown.
    """

    name: str
    checkpoint: Path | None
    reference: bool
    step: int | None = None
    unit: str = ''

    @property
    def run(self) -> tuple[Path | None, str]:
        """Key of the pretraining run: the folder of the checkpoint. A file without a step is a separate run."""
        if self.checkpoint is None or self.step is None:
            return self.checkpoint, self.unit
        return self.checkpoint.absolute().parent, self.unit


def last_of_runs(encoders: Sequence[Encoder]) -> list[Encoder]:
    """Returns the encoders to show if there is no room for all: the last one of each run, then the references."""
    candidates = [encoder for encoder in encoders if not encoder.reference]
    last = {encoder.run: encoder for encoder in sorted(candidates, key=lambda encoder: encoder.step or 0)}
    return ([encoder for encoder in candidates if last[encoder.run] == encoder]
            + [encoder for encoder in encoders if encoder.reference])


def runs_of(encoders: Sequence[Encoder], unit: str) -> dict[str, list[Encoder]]:
    """Returns the encoders whose length of pretraining in `unit` is known, by the short name of their run.

    References are left out.
    """
    runs: dict[Path | None, list[Encoder]] = {}
    for encoder in encoders:
        if encoder.unit == unit and not encoder.reference:
            runs.setdefault(encoder.run[0], []).append(encoder)
    return dict(zip(_short_names(list(runs)), runs.values(), strict=True))


def find_encoders(checkpoints: Sequence[str], against: Sequence[str],
                  known: Mapping[Path, str] | None = None) -> list[Encoder]:
    """Returns the encoders that --checkpoint and --against name.

    Args:
        checkpoints: files, or folders with the checkpoints of a run.
        against: the same, or 'random'. The others are compared with these.
        known: names that resolved paths had in earlier runs. They keep them, so that their results count.

    Raises:
        ValueError: a path has no checkpoint, or a checkpoint is given twice.
    """
    files = [(path, reference) for reference, names in ((False, checkpoints), (True, against)) for name in names
             for path in _files(name, allow_random=reference)]
    count = Counter(path and path.resolve() for path, _ in files)
    duplicates = [str(path or RANDOM) for path, number in count.items() if number > 1]
    if duplicates:
        raise ValueError(f'the same checkpoint is given twice: {", ".join(duplicates)}')
    names = _short_names([path and path.absolute() for path, _ in files], known)
    return [Encoder(name, path, reference, *_step(path)) for name, (path, reference) in zip(names, files, strict=True)]


def _files(name: str, *, allow_random: bool) -> list[Path | None]:
    path = Path(name)
    if name == RANDOM and allow_random:
        return [None]
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(f'{name} is neither a checkpoint nor the folder of a run'
                         + ('; pass random weights to --against' if name == RANDOM else ': check the path'))
    steps = {file: _step(file)[0] for file in path.glob('*.pth')}
    checkpoints = [(step, file) for file, step in steps.items() if step is not None]
    if not checkpoints:
        raise ValueError(f'{path} has no checkpoints epoch_N.pth or iter_N.pth: pass the work directory of a '
                         'pretraining, or a file')
    return [file for _, file in sorted(checkpoints)]


def _short_names(paths: Sequence[Path | None], known: Mapping[Path, str] | None = None) -> list[str]:
    """Returns unique names: the file name, with as many parent folders as needed."""
    before = [known.get(path.resolve()) if known and path else None for path in paths]
    for num_parts in range(1, max([len(path.parts) for path in paths if path is not None], default=1) + 1):
        names = [old or (RANDOM if path is None else _short_name(path, num_parts))
                 for old, path in zip(before, paths, strict=True)]
        if len(set(names)) == len(names):
            return names
    return [str(path or RANDOM) for path in paths]  # for example the files X and X.pth


def _short_name(path: Path, num_parts: int) -> str:
    return '/'.join(path.parts[-num_parts:]).removesuffix('.pth')


def _step(path: Path | None) -> tuple[int | None, str]:
    match = re.fullmatch(r'(epoch|iter)_(\d+)', path.stem) if path is not None else None
    return (int(match[2]), match[1]) if match else (None, '')


def file_fingerprint(path: Path) -> str:
    """Returns the SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
