"""Encoders to compare: checkpoint files, pretraining runs, timm models, random weights, and encoders of a suite."""
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mae_backbone.checkpoints.model_index import public_weights, resolve
from mae_backbone.checkpoints.timm_files import weights_file
from mae_backbone.checkpoints.weight_files import files_of
from mae_backbone.transfer.recipe import Entry, Recipe

RANDOM = 'random'
TIMM = 'timm:'  # prefix of a model of timm on the command line


class Encoder(NamedTuple):
    """An encoder to evaluate.

    Attributes:
        name: short name, unique among the encoders of a data set.
        checkpoint: file with its weights; None for random weights, for weights that timm downloads, and for an encoder
            that the suite trains.
        reference: True if other encoders are compared with it.
        step: length of the pretraining in `unit`, if the file name states it.
        unit: 'epoch', 'iter', or '' if unknown.
        timm: arguments of `TimmViT` for a model of timm; None for our ViT. Without a checkpoint, timm downloads the
            weights.
        key: key in `Suite.encoders`; '' for an encoder that is not in the suite.
        entry: entry in `Suite.encoders`; None for an encoder that is not in the suite.
    """

    name: str
    checkpoint: Path | None
    reference: bool
    step: int | None = None
    unit: str = ''
    timm: dict[str, Any] | None = None
    key: str = ''
    entry: Entry | None = None

    @property
    def recipe(self) -> Recipe | None:
        """Training by which the suite makes the encoder, or None if the encoder is not trained by the suite."""
        return self.entry.recipe if self.entry else None

    def is_for(self, data: str) -> bool:
        """True if the encoder is evaluated on the data set `data`."""
        return self.entry is None or self.entry.is_for(data)

    @property
    def is_point(self) -> bool:
        """True if the encoder is a point of a curve (`Entry.line`) that has the name of another encoder."""
        return self.entry is not None and self.entry.line not in (None, self.name)

    @property
    def weights(self) -> str | None:
        """Path of the weights; 'timm' if timm downloads them; None for random weights and for a recipe."""
        if self.checkpoint is not None:
            return str(self.checkpoint.resolve())
        return 'timm' if self.timm else None

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, or their name if there is no file."""
        if self.checkpoint is not None:
            return weights_fingerprint(self.checkpoint, of_timm=bool(self.timm))
        return f'{TIMM}{self.timm["name"]}' if self.timm else RANDOM

    @property
    def run(self) -> tuple[Path | None, str]:
        """Key of the pretraining run, and `unit`. Checkpoints in the same folder belong to the same run.

        A file without its step in the name is a separate run.
        """
        if self.key and not (self.checkpoint or self.timm):
            return Path('suite', self.key), self.unit
        if self.timm:
            return Path(TIMM, self.name), self.unit
        if self.checkpoint is None or self.step is None:
            return self.checkpoint, self.unit
        return self.checkpoint.absolute().parent, self.unit


def last_of_runs(encoders: Sequence[Encoder]) -> list[Encoder]:
    """Returns the last encoder of each run, followed by the references, for figures that cannot show all encoders.

    Encoders that are only points of a curve (`Encoder.is_point`) are excluded.
    """
    candidates = [encoder for encoder in encoders if not encoder.reference and not encoder.is_point]
    last = {encoder.run: encoder for encoder in sorted(candidates, key=lambda encoder: encoder.step or 0)}
    return ([encoder for encoder in candidates if last[encoder.run] == encoder]
            + [encoder for encoder in encoders if encoder.reference])


def runs_of(encoders: Sequence[Encoder], unit: str) -> dict[str, list[Encoder]]:
    """Returns the encoders with a known length of pretraining in `unit`, grouped by the short name of their run.

    References are excluded.
    """
    runs: dict[Path | None, list[Encoder]] = {}
    for encoder in encoders:
        if encoder.unit == unit and not encoder.reference:
            runs.setdefault(encoder.run[0], []).append(encoder)
    return dict(zip(_short_names(list(runs)), runs.values(), strict=True))


class _Source(NamedTuple):
    """An encoder as given on the command line: a file or folder, a model of timm, or an encoder of the suite."""

    path: Path | None
    timm: dict[str, Any] | None = None
    name: str | None = None
    key: str = ''
    entry: Entry | None = None

    @property
    def identity(self) -> tuple[str, ...]:
        """Key that is equal for two sources of the same weights."""
        return str(self.path and self.path.resolve()), repr(self.timm), '' if self.path or self.timm else self.key


def find_encoders(checkpoints: Sequence[str], against: Sequence[str], known: Mapping[Path, str] | None = None,
                  named: Mapping[str, Entry] | None = None) -> list[Encoder]:
    """Returns the encoders that are given as --checkpoint and --against.

    Args:
        checkpoints: files, folders with the checkpoints of a run, folders with a `config.json` and weights as Hugging
            Face writes them, models of timm as 'timm:NAME=FILE', 'timm:FOLDER' (a local hub folder) or 'timm:NAME'
            (timm downloads the weights), or names or keys in `named`.
        against: the references, in the same forms, or 'random'.
        known: names that checkpoints had in earlier runs, by resolved path. They keep these names, so that earlier
            results are reused.
        named: `Suite.encoders`.

    Raises:
        ValueError: a path has no checkpoint, a checkpoint is given twice, or two encoders have the same name.
    """
    sources = [(source, reference) for reference, names in ((False, checkpoints), (True, against)) for name in names
               for source in _sources(name, named or {}, allow_random=reference)]
    count = Counter(source.identity for source, _ in sources)
    duplicates = [key or (path if path != 'None' else timm if timm != 'None' else RANDOM)
                  for (path, timm, key), number in count.items() if number > 1]
    if duplicates:
        raise ValueError(f'the same checkpoint is given twice: {", ".join(duplicates)}')
    names = _unique_names([source for source, _ in sources], known or {})
    return [Encoder(name, source.path, reference, *((None, '') if source.timm else _step(source.path)), source.timm,
                    source.key, source.entry)
            for name, (source, reference) in zip(names, sources, strict=True)]


def _sources(name: str, named: Mapping[str, Entry], *, allow_random: bool) -> list[_Source]:
    entries = {key: entry for key, entry in named.items() if name in (key, entry.name)}
    if entries:
        return [_source_of(key, entry) for key, entry in entries.items()]
    if name in public_weights() and not Path(name).exists():
        return [_Source(resolve(name), None, name)]
    if not name.startswith(TIMM):
        return [_Source(path) for path in _files(name, allow_random=allow_random)]
    model, _, file = name.removeprefix(TIMM).partition('=')
    if file in public_weights():
        file = str(resolve(file))
    if file and not Path(file).exists():
        raise ValueError(f'{name}: {file} does not exist: check the path after =')
    folder = Path(model)
    if folder.is_dir():  # the jobs may run in another folder
        return [_Source(Path(file) if file else folder, {'name': str(folder.resolve())})]
    return [_Source(Path(file) if file else None, {'name': model})]


def _source_of(key: str, entry: Entry) -> _Source:
    given = entry.given
    path = Path(given['checkpoint']).expanduser() if given.get('checkpoint') else None
    if path is not None and not path.exists():
        raise ValueError(f'the encoder {key} of the suite has the checkpoint {path}, which does not exist')
    timm = {'name': given['timm'], **given.get('options', {})} if given.get('timm') else None
    return _Source(path, timm, entry.name, key, entry)


def _unique_names(sources: Sequence[_Source], known: Mapping[Path, str]) -> list[str]:
    """Returns a name for each source: of a timm model or an encoder of the suite its name, of a file a short name.

    Short names that are not unique get parent folders as a prefix. Encoders of a suite for different data sets may have
    the same name.

    Raises:
        ValueError: encoders that are not of the same entry of a suite have the same name.
    """
    names = iter(_short_names([source.path and source.path.absolute() for source in sources
                               if not (source.name or source.timm)], known))
    result = [source.name or (Path(source.timm['name']).name if source.timm else next(names)) for source in sources]
    repeated = {name for name, number in Counter(result).items() if number > 1}
    result = [f'{name}={source.path.name}' if name in repeated and source.timm and source.path and not source.entry
              else name for name, source in zip(result, sources, strict=True)]
    owners = {(name, 'suite' if source.entry else index)
              for index, (name, source) in enumerate(zip(result, sources, strict=True))}
    if len(owners) > len(set(result)):
        raise ValueError(f'several encoders have the same name, {", ".join(sorted(repeated))}: name them in `encoders` '
                         'of the suite')
    return result


def _files(name: str, *, allow_random: bool) -> list[Path | None]:
    path = Path(name)
    if name == RANDOM and allow_random:
        return [None]
    if path.is_file():
        return [path]
    if (path / 'config.json').is_file():  # weights as Hugging Face writes them
        return [path]
    if not path.is_dir():
        raise ValueError(f'{name} is neither a checkpoint nor a folder (a model of timm: timm:NAME=FILE)'
                         + ('; pass random weights to --against' if name == RANDOM else ': check the path'))
    steps = {file: _step(file)[0] for file in path.glob('*.pth')}
    checkpoints = [(step, file) for file, step in steps.items() if step is not None]
    if not checkpoints:
        raise ValueError(f'{path} has no checkpoints epoch_N.pth or iter_N.pth: pass the work directory of a '
                         'pretraining, a folder with a config.json, or a file')
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


def weights_fingerprint(path: Path, *, of_timm: bool = False) -> str:
    """Returns the SHA-256 of a file of weights. For a folder it includes all weight files and the `config.json`.

    Args:
        path: file or folder of the weights.
        of_timm: True for a model of timm: its folder contains a single file of weights.
    """
    if of_timm or not path.is_dir():
        return file_fingerprint(weights_file(path))
    return hashlib.sha256(''.join(map(file_fingerprint, files_of(path))).encode()).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Returns the SHA-256 of the content of a file."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
