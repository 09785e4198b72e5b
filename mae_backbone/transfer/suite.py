"""Suites: tasks x data sets x shares of the labels x seeds, as a config lists them."""
import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mae_backbone.core.vit import ARCHS

PROBES = ('knn', 'linear', 'attentive')


@dataclass(frozen=True)
class Task:
    """One way to judge an encoder: `probe` on its frozen features, or a training by one of our configs.

    Attributes:
        name: of the task; with it begin the folders of its cells.
        data: names of data sets of the suite.
        probe: one of `PROBES`; None for a training.
        config: of the training, below the folder of all configs; or one for each architecture, by its name in
            `mae_backbone.core.vit.ARCHS`.
        metrics: what the training logs -> what a table calls it.
        scale: what a logged value is multiplied with to be in percent.
        options: arguments of the probe, or --cfg-options of the training.
        labels: shares of the labels, in (0, 1].
        seeds: each draws the share of the labels, the order of the images and the new weights anew.
        gpus: processes of a training that has GPUs, one each.
        amp: train in mixed precision where there is a GPU.
        pictures: how many predictions of the training are shown.
    """

    name: str
    data: tuple[str, ...]
    probe: str | None = None
    config: str | dict[str, str] | None = None
    metrics: dict[str, str] = field(default_factory=lambda: {'accuracy/top1': 'top-1'})
    scale: float = 1.0
    options: dict[str, object] = field(default_factory=dict)
    labels: tuple[float, ...] = (1.0,)
    seeds: tuple[int, ...] = (0,)
    gpus: int = 1
    amp: bool = False
    pictures: int = 4

    def __post_init__(self) -> None:
        _check_numbers(f'task {self.name!r}', 'labels', self.labels, (int, float), 'shares such as [0.1, 1.0]')
        _check_numbers(f'task {self.name!r}', 'seeds', self.seeds, (int,), 'whole numbers such as [0, 1, 2]')
        if (self.probe is None) == (self.config is None):
            raise ValueError(f'task {self.name!r} has probe={self.probe!r} and config={self.config!r}: set one of them')
        if self.probe is not None and self.probe not in PROBES:
            raise ValueError(f'task {self.name!r} has probe={self.probe!r}, wanted one of {", ".join(PROBES)}')
        if not self.labels or not all(0 < share <= 1 for share in self.labels):
            raise ValueError(f'task {self.name!r} has labels={self.labels}, wanted shares in (0, 1]')
        if not self.seeds or not self.data:
            raise ValueError(f'task {self.name!r} has seeds={self.seeds} and data={self.data}: it wants some of each')

    def config_for(self, arch: str | None) -> str:
        """The config for an encoder of that architecture; raises ValueError where the suite has none."""
        if isinstance(self.config, dict):
            if arch not in self.config:
                raise ValueError(f'task {self.name!r} has configs for {", ".join(self.config)}, none for an encoder of '
                                 f'the architecture {arch or "of its own"}: add one to the suite')
            return self.config[arch]
        return self.config


@dataclass(frozen=True)
class Suite:
    """What tools/transfer.py runs.

    Attributes:
        name: of the suite.
        title: the headline of the report.
        data: name of a data set -> its folder below --data-root.
        tasks: in the order of the report.
        reported: published numbers to stand beside ours: dicts with task, data, metric, arch (in
            `mae_backbone.core.vit.ARCHS`), value, name and source.
        image_size: side in pixels that frozen features are extracted at; None: that of the pretraining.
        new_random_weights: whether `random` has other weights for each seed in probes; one draw takes less time.
        text: of the config, for the record.
    """

    name: str
    title: str
    data: dict[str, str]
    tasks: tuple[Task, ...]
    reported: tuple[dict, ...] = ()
    image_size: int | None = None
    new_random_weights: bool = False
    text: str = ''

    def only(self, *, tasks: Sequence[str] | None = None, data: Sequence[str] | None = None,
             labels: Sequence[float] | None = None, seeds: Sequence[int] | None = None) -> 'Suite':
        """The part of it with these tasks, data sets, shares of the labels and seeds; None for all.

        Raises:
            ValueError: it has none such.
        """
        known = [task.name for task in self.tasks]
        for option, wanted, there in (('--tasks', tasks, known), ('--data', data, list(self.data)),
                                      ('--labels', labels, sorted({x for task in self.tasks for x in task.labels})),
                                      ('--seeds', seeds, sorted({x for task in self.tasks for x in task.seeds}))):
            missing = [str(one) for one in wanted or () if one not in there]
            if missing:
                raise ValueError(f'{option} {" ".join(missing)}: the suite {self.name} has '
                                 f'{", ".join(map(str, there))}')
        left = []
        for task in self.tasks:
            sets = tuple(name for name in task.data if data is None or name in data)
            shares = tuple(share for share in task.labels if labels is None or share in labels)
            numbers = tuple(seed for seed in task.seeds if seeds is None or seed in seeds)
            if sets and shares and numbers and (tasks is None or task.name in tasks):
                left.append(dataclasses.replace(task, data=sets, labels=shares, seeds=numbers))
        if not left:
            raise ValueError(f'the suite {self.name} has no task for that choice of --tasks, --data, --labels and '
                             '--seeds')
        used = {name for task in left for name in task.data}
        return dataclasses.replace(self, tasks=tuple(left), data={name: folder for name, folder in self.data.items()
                                                                  if name in used})


@dataclass(frozen=True)
class Cell:
    """One number to be had: a task on a data set, with a share of its labels, one seed, and the encoder `model`."""

    task: str
    data: str
    labels: float
    seed: int
    model: str

    @property
    def folder(self) -> Path:
        """Where it is run, below the folder of the benchmark."""
        return Path('cells', self.task, self.data, f'labels-{self.labels:g}', f'seed-{self.seed}',
                    self.model.replace('/', '__'))


def cells_of(suite: Suite, models: Sequence[str]) -> Iterator[Cell]:
    """All cells of a suite for these encoders, task by task."""
    for task in suite.tasks:
        for data in task.data:
            for labels in task.labels:
                for seed in task.seeds:
                    for model in models:
                        yield Cell(task.name, data, labels, seed, model)


def load_suite(name: str, configs: Path) -> Suite:
    """A suite by its name in `configs`/transfer, or by the path of its config.

    Raises:
        ValueError: there is no such suite, or something in it that nothing reads.
    """
    path = Path(name) if name.endswith('.py') else configs / 'transfer' / f'{name}.py'
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in (configs / 'transfer').glob('*.py')))
        raise ValueError(f'there is no suite {path}: pass one of {known}, or the path of a config like those')
    cfg = Config.fromfile(path, import_custom_modules=False)
    content = cfg.to_dict()
    defaults = {key: content.pop(key) for key in ('labels', 'seeds') if key in content}
    _only_known(content, Suite, f'suite {path}', {'title', 'data', 'tasks'})
    data = _dict(content['data'], f'suite {path}: data', "dict(NAME='folder')")
    entries = _dict(content['tasks'], f'suite {path}: tasks', 'dict(NAME=dict(...))')
    tasks = tuple(_task(key, {**defaults, **_dict(value, f'task {key!r}', "dict(probe='knn', data=['NAME'])")}, data)
                  for key, value in entries.items())
    reported = _list(content.get('reported', ()), f'suite {path}: reported', 'a list of dicts')
    suite = Suite(name=path.stem, text=path.read_text(encoding='utf-8'),
                  **{**content, 'tasks': tasks, 'reported': reported})
    for number in suite.reported:
        _check_reported(number, suite)
    return suite


def _task(name: str, values: dict, known: dict[str, str]) -> Task:
    _only_known(values, Task, f'task {name!r}', {'data'})
    lists = {key: _list(values[key], f'task {name!r}: {key}', 'a list') for key in ('data', 'labels', 'seeds')
             if key in values}
    unknown = [str(one) for one in lists['data'] if one not in list(known)]
    if unknown:
        raise ValueError(f'task {name!r} wants the data {", ".join(unknown)}: the suite has {", ".join(known)}')
    return Task(name=name, **{**values, **lists})


def _dict(value: object, what: str, wanted: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f'{what} is {value!r}: wanted {wanted}')
    return value


def _list(value: object, what: str, wanted: str) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f'{what} is {value!r}: wanted {wanted}, such as [{value!r}]')
    return tuple(value)


def _check_numbers(what: str, key: str, values: Sequence, kinds: tuple[type, ...], wanted: str) -> None:
    wrong = [value for value in values if not isinstance(value, kinds) or isinstance(value, bool)]
    if wrong:
        raise ValueError(f'{what} has {key}={list(values)!r}: wanted {wanted}')


def _only_known(values: dict, kind: type, what: str, wanted: set[str]) -> None:
    keys = {entry.name for entry in dataclasses.fields(kind)} - {'name', 'text'}
    unknown, missing = sorted(set(values) - keys), sorted(wanted - set(values))
    if unknown or missing:
        problem = f'has {", ".join(unknown)}, which nothing reads' if unknown else f'misses {", ".join(missing)}'
        raise ValueError(f'{what} {problem}: its keys are {", ".join(sorted(keys))}')


def _check_reported(number: dict, suite: Suite) -> None:
    """Raises ValueError for a published number that would stand nowhere."""
    wanted = {'task', 'data', 'metric', 'arch', 'value', 'name', 'source'}
    if set(_dict(number, 'a number of `reported`', f'a dict with {", ".join(sorted(wanted))}')) != wanted:
        raise ValueError(f'a number of `reported` has {", ".join(number)}, wanted {", ".join(sorted(wanted))}')
    if number['task'] not in {task.name for task in suite.tasks} or number['data'] not in suite.data:
        raise ValueError(f'a number is reported for {number["task"]} on {number["data"]}, which the suite lacks')
    if number['arch'] not in list(ARCHS):
        raise ValueError(f'a number is reported for the architecture {number["arch"]!r}: wanted one of '
                         f'{", ".join(ARCHS)}')
    value = number['value']
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f'the number reported for {number["task"]} on {number["data"]} is {value!r}: wanted percent')
