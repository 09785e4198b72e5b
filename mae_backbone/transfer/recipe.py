"""Entries of `encoders` in a suite: existing encoders, and recipes of encoders that the suite trains itself."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GIVEN = ("dict(checkpoint='MAE.pth'), dict(timm='NAME', checkpoint='FILE', options=dict(...)), or dict(like='NAME') "
         'for random weights with the architecture of another encoder')
MADE = "dict(pretrain='CONFIG', data='NAME') or dict(train='CONFIG', data='NAME')"
_COMMANDS = ('pretrain', 'train')
_RECIPE_KEYS = {*_COMMANDS, 'data', 'folder', 'options', 'length', 'start', 'seed', 'amp'}
_COMMON_KEYS = {'on', 'line', 'against', 'training'}
_LIMITS = ('data', 'tasks', 'labels', 'seeds')
_ENCODER_FILE = 'encoder.pth'


@dataclass(frozen=True)
class Recipe:
    """Training by which a suite makes an encoder.

    Attributes:
        command: 'pretrain' for a MAE, or 'train' for supervised training.
        config: config of the training, as a path relative to `configs/`.
        data: name of a data set of the suite.
        folder: folder of the training images, relative to the folder of the data set.
        options: --cfg-options of the training.
        length: length in epochs or iterations, the unit that the config uses; None for the length of the config.
        start: key in `Suite.encoders` of the encoder that the training starts from; None for random weights.
        seed: random seed.
        amp: train in mixed precision, like `--amp`.
    """

    command: str
    config: str
    data: str
    folder: str = '.'
    options: Mapping[str, object] = field(default_factory=dict)
    length: int | None = None
    start: str | None = None
    seed: int = 0
    amp: bool = False


@dataclass(frozen=True)
class Entry:
    """An encoder of a suite.

    Attributes:
        name: name in the report. Encoders of different data sets may have the same name.
        recipe: training by which the suite makes the encoder; None for an existing encoder or random weights.
        given: for an existing encoder, its 'checkpoint', 'timm' and 'options'. For random weights, 'like': the key of
            the encoder whose architecture they have.
        limits: restricts the evaluation. Lists of names or values by the keys 'data', 'tasks', 'labels' and 'seeds'. A
            missing key means no restriction.
        line: name of the curve over the length of pretraining that the encoder is a point of; None if it is not in a
            curve.
        against: names of the encoders that it is compared with; None for the encoders of --against.
        training: --cfg-options of the trainings that start from it, needed if its size differs from the size in the
            configs of the tasks.
    """

    name: str
    recipe: Recipe | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    line: str | None = None
    against: tuple[str, ...] | None = None
    training: Mapping[str, object] = field(default_factory=dict)

    def is_for(self, data: str) -> bool:
        """True if the encoder is evaluated on the data set `data`."""
        return data in self.limits.get('data', (data,))

    @property
    def is_extra(self) -> bool:
        """True if the encoder is evaluated on only some tasks, labels or seeds. Its cells run after all others."""
        return bool(self.limits.keys() - {'data'})


def read_entries(encoders: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Entry]:
    """Returns the encoders of a suite by their keys.

    The key of an encoder is its name. If the value of a name is a dict with an encoder for each data set,
    `NAME=dict(DATA=dict(...))`, the keys are NAME/DATA.

    Args:
        encoders: `encoders` of the config.
        data: `data` of the config, the folders by name of the data set.

    Raises:
        ValueError: an entry has an unknown key or a value of the wrong type, or starts from an encoder that the suite
            does not make.
    """
    entries = {}
    for name, value in encoders.items():
        several = isinstance(value, dict) and value and set(value) <= set(data)
        for key, inner, limit in ([(f'{name}/{one}', value[one], (one,)) for one in value] if several
                                  else [(name, value, None)]):
            entries[key] = _entry(name, key, inner, limit, data)
            if '/' in name and entries[key].recipe:
                raise ValueError(f'encoder {name!r} of the suite has a "/" in its name, which separates names and data '
                                 'sets: choose another name')
    for key, entry in entries.items():
        _check_start(key, entries)
        unknown = [other for other in entry.against or () if other not in encoders]
        if unknown:
            raise ValueError(f'encoder {key!r} is compared with {", ".join(unknown)}: the suite has '
                             f'{", ".join(encoders)}')
    return entries


def with_starts(keys: Iterator[str] | list[str], entries: Mapping[str, Entry]) -> list[str]:
    """Returns the keys of the encoders that must be trained to get the encoders `keys`, in the order of training.

    These are the encoders `keys` with a recipe, and the encoders that they start from.
    """
    ordered: list[str] = []
    for key in keys:
        chain: list[str] = []
        current: str | None = key
        while current is not None and current not in ordered:
            chain.append(current)
            recipe = entries[current].recipe
            current = recipe.start if recipe else None
        ordered += [step for step in reversed(chain) if entries[step].recipe]
    return ordered


def encoder_folder(key: str) -> Path:
    """Folder of the training of an encoder, relative to the work directory."""
    name, slash, data = key.rpartition('/')
    return Path('encoders', *(part.replace('/', '__') for part in ((name, data) if slash else (key,))))


def encoder_file(folder: Path) -> Path:
    """Path of the weights of an encoder that was trained in `folder`."""
    return folder / _ENCODER_FILE


def _entry(name: str, key: str, value: object, data_limit: tuple[str, ...] | None, data: Mapping[str, str]) -> Entry:
    what = f'encoder {key!r} of the suite'
    if not isinstance(value, dict):
        raise ValueError(f'{what} is {value!r}: expected {GIVEN}, {MADE}, or a dict of those by data set')
    common = {part: value[part] for part in _COMMON_KEYS & set(value)}
    rest = {part: content for part, content in value.items() if part not in _COMMON_KEYS}
    recipe = _recipe(what, rest, data) if set(rest) & set(_COMMANDS) else None
    if recipe is None:
        _check_given(what, rest)
    limits = _limits(what, common.get('on', {}), data)
    if data_limit:
        limits['data'] = data_limit
    elif recipe:
        limits.setdefault('data', (recipe.data,))
    against, training = common.get('against'), common.get('training', {})
    if not isinstance(against, (list, tuple, type(None))) or not isinstance(training, dict):
        raise ValueError(f"{what} has against={against!r} and training={training!r}: expected a list of names, and a "
                         "dict of --cfg-options such as {'model.backbone.arch.width': 64}")
    line = common.get('line')
    if line is not None and not isinstance(line, str):
        raise ValueError(f'{what} has line={line!r}: expected the name of a curve')
    return Entry(name, recipe, {} if recipe else rest, limits, line, None if against is None else tuple(against),
                 training)


def _recipe(what: str, values: dict[str, Any], data: Mapping[str, str]) -> Recipe:
    unknown = sorted(set(values) - _RECIPE_KEYS)
    if unknown:
        raise ValueError(f'{what} has the unknown key {", ".join(unknown)}: an encoder that the suite makes has '
                         f'{", ".join(sorted(_RECIPE_KEYS | _COMMON_KEYS))}')
    commands = [command for command in _COMMANDS if command in values]
    if len(commands) != 1:
        raise ValueError(f'{what} has pretrain and train: set one of them')
    if values.get('data') not in data:
        raise ValueError(f'{what} is made from the data {values.get("data")!r}: the suite has {", ".join(data)}')
    types: dict[str, tuple[type, str]] = {
        commands[0]: (str, "the path of a config, such as 'demo/mae_vit-micro_cifar10.py'"), 'folder': (str, 'a path'),
        'options': (dict, 'a dict of --cfg-options'), 'length': (int, 'a number of epochs or iterations'),
        'start': (str, 'the name of an encoder'), 'seed': (int, 'an integer'), 'amp': (bool, 'True or False')}
    for part, (kind, expected) in types.items():
        given = values.get(part)
        if part in values and (not isinstance(given, kind) or (isinstance(given, bool) and kind is not bool)):
            raise ValueError(f'{what} has {part}={given!r}: expected {expected}')
    if values.get('length', 1) < 1:
        raise ValueError(f'{what} has length={values["length"]}: expected 1 or more')
    folder = Path(values.get('folder', '.'))
    if folder.is_absolute() or '..' in folder.parts:
        raise ValueError(f'{what} has folder={values["folder"]!r}: expected a folder inside the data set')
    rest = {part: content for part, content in values.items() if part not in _COMMANDS}
    return Recipe(commands[0], values[commands[0]], **rest)


def _check_given(what: str, values: dict[str, Any]) -> None:
    keys = set(values)
    typed = all(isinstance(value, dict if key == 'options' else (str, Path)) for key, value in values.items())
    if typed and keys == {'like'}:
        return
    if not typed or not keys <= {'checkpoint', 'timm', 'options'} or not keys & {'checkpoint', 'timm'} or (
            'options' in keys and 'timm' not in keys):
        raise ValueError(f'{what} is {values!r}: expected {GIVEN}, or {MADE}, which the suite makes')


def _limits(what: str, value: object, data: Mapping[str, str]) -> dict[str, tuple[Any, ...]]:
    given = {'data': value} if isinstance(value, (list, tuple)) else value
    if not isinstance(given, dict) or not set(given) <= set(_LIMITS) or not all(
            isinstance(part, (list, tuple)) and part for part in given.values()):
        raise ValueError(f"{what} has on={value!r}: expected names of data sets such as ['{next(iter(data))}'], or "
                         'dict(data=[...], tasks=[...], labels=[...], seeds=[...]) with some of these')
    unknown = [str(name) for name in given.get('data', ()) if name not in list(data)]
    if unknown:
        raise ValueError(f'{what} is for the data {", ".join(unknown)}: the suite has {", ".join(data)}')
    return {part: tuple(content) for part, content in given.items()}


def _check_start(key: str, entries: Mapping[str, Entry]) -> None:
    """Raises ValueError if `start` is not an encoder that the suite trains, is circular, or if `like` is unknown."""
    like = entries[key].given.get('like')
    if like is not None and (like not in entries or 'like' in entries[like].given):
        raise ValueError(f'encoder {key!r} has the architecture of {like!r}: the suite has {", ".join(entries)}')
    seen, current = [key], entries[key].recipe
    while current is not None and current.start is not None:
        start = entries.get(current.start)
        if start is None or start.recipe is None:
            made = ', '.join(name for name, entry in entries.items() if entry.recipe)
            raise ValueError(f'encoder {seen[-1]!r} starts from {current.start!r}: expected one that the suite makes, '
                             f'{made}')
        if current.start in seen:
            raise ValueError(f'encoder {key!r} starts from itself: {" from ".join([*seen, current.start])}')
        seen.append(current.start)
        current = start.recipe
