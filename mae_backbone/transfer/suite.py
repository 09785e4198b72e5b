"""Suites of transfer benchmarks: a config that lists tasks, data sets, fractions of the labels and seeds."""
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_backbone.core.vit import ARCHS
from mae_backbone.transfer.recipe import Entry, read_entries
from mae_backbone.transfer.task import CONFIG_PEERS, FOLDER_PEERS, TOP1, Task, is_number
from mae_backbone.utils.config_files import configs_root


@dataclass(frozen=True)
class Suite:
    """Tasks that `mae-backbone transfer` runs.

    Attributes:
        name: name of the suite.
        title: title of the report.
        data: folder of each data set, relative to --data-root, by the name of the data set.
        tasks: tasks in the order of the report.
        reported: published results that the table shows next to our results. Each is a dict with the keys task, data,
            metric, arch (a name in `mae_backbone.core.vit.ARCHS`), value (percent), name and source.
        image_size: height and width in pixels of the images from which frozen features are extracted (default: image
            size of the encoder).
        new_random_weights: if True, the encoder `random` has different weights for each seed of a probe. If False, all
            seeds of a probe use the same random weights, and the features are extracted only once.
        encoders: encoders that --checkpoint and --against may name. In the config, the value of a name is one of:
            dict(checkpoint=PATH), a MAE; dict(timm=NAME, checkpoint=PATH, options=dict(...)), a model of timm with
            `options` of `TimmViT` (without a checkpoint, timm downloads the weights); dict(pretrain=CONFIG, data=NAME)
            or dict(train=CONFIG, data=NAME), an encoder that the suite trains, with more keys of `Recipe` and `Entry`;
            or a dict with one of these for each data set.
        against: names of the encoders that the others are compared with if --against is not given.
        folders: folders of all data sets of the config. `only` removes entries from `data`, but not from `folders`.
        text: source text of the config.
    """

    name: str
    title: str
    data: dict[str, str]
    tasks: tuple[Task, ...]
    reported: tuple[dict[str, Any], ...] = ()
    image_size: int | None = None
    new_random_weights: bool = False
    encoders: dict[str, Entry] = field(default_factory=dict)
    against: tuple[str, ...] = ()
    folders: dict[str, str] = field(default_factory=dict)
    text: str = ''

    def only(self, *, tasks: Sequence[str] | None = None, data: Sequence[str] | None = None,
             labels: Sequence[float] | None = None, seeds: Sequence[int] | None = None) -> 'Suite':
        """Returns a suite with only these tasks, data sets, fractions of the labels and seeds. None keeps all.

        The seeds may be others than those of the suite, to repeat its tasks more often. A task that the suite repeats
        less often than others, for example because it does not depend on the seed, keeps only seeds of its own.

        Raises:
            ValueError: the suite has no such tasks, data sets or fractions, or a seed is negative.
        """
        options: tuple[tuple[str, Sequence[Any] | None, list[Any]], ...] = (
            ('--tasks', tasks, [task.name for task in self.tasks]),
            ('--data', data, list(self.data)),
            ('--labels', labels, sorted({fraction for task in self.tasks for fraction in task.labels})))
        for option, wanted, available in options:
            missing = [str(value) for value in wanted or () if value not in available]
            if missing:
                raise ValueError(f'{option} {" ".join(missing)}: the suite {self.name} has '
                                 f'{", ".join(map(str, available))}')
        if seeds and min(seeds) < 0:
            raise ValueError(f'--seeds {min(seeds)}: expected numbers from 0 on')
        selected, most = [], max(len(task.seeds) for task in self.tasks)
        for task in self.tasks:
            task_data = tuple(name for name in task.data if data is None or name in data)
            task_labels = tuple(fraction for fraction in task.labels if labels is None or fraction in labels)
            task_seeds = task.seeds if seeds is None else tuple(
                seed for seed in dict.fromkeys(seeds) if len(task.seeds) == most or seed in task.seeds)
            if task_data and task_labels and task_seeds and (tasks is None or task.name in tasks):
                selected.append(dataclasses.replace(task, data=task_data, labels=task_labels, seeds=task_seeds))
        if not selected:
            raise ValueError(f'the suite {self.name} has no task for this combination of --tasks, --data, --labels and '
                             '--seeds: choose fewer of them')
        used = {name for task in selected for name in task.data}
        return dataclasses.replace(self, tasks=tuple(selected),
                                   data={name: folder for name, folder in self.data.items() if name in used})


@dataclass(frozen=True)
class Cell:
    """One measurement: a task on a data set, with a fraction of its labels, a seed, and the encoder `model`."""

    task: str
    data: str
    labels: float
    seed: int
    model: str

    @property
    def folder(self) -> Path:
        """Folder of the cell, relative to the work directory."""
        return Path('cells', self.task, self.data, f'labels-{self.labels:g}', f'seed-{self.seed}',
                    self.model.replace('/', '__'))


def cells_of(suite: Suite, models: Sequence[str]) -> Iterator[Cell]:
    """Yields all cells of a suite for the encoders named `models`, in the order of the tasks. A peer has no encoder."""
    for task in suite.tasks:
        for data in task.data:
            for labels in task.labels:
                for seed in task.seeds:
                    for model in [task.peer] if task.peer else models:
                        yield Cell(task.name, data, labels, seed, model)


def load_suite(name: str) -> Suite:
    """Loads a suite.

    Args:
        name: name of a config in `configs/transfer`, such as 'quick', or the path of a config, which ends with '.py'.

    Raises:
        ValueError: the suite does not exist, or its config has a key that is unknown or a value of the wrong type.
    """
    folder = configs_root() / 'transfer'
    path = Path(name) if name.endswith('.py') else folder / f'{name}.py'
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in folder.glob('*.py')))
        raise ValueError(f'suite {path} does not exist: choose from {known}, or pass the path of a config, such '
                         f'as a changed copy of one in {folder}')
    content = Config.fromfile(path, import_custom_modules=False).to_dict()
    defaults = {key: content.pop(key) for key in ('labels', 'seeds') if key in content}
    _check_keys(content, Suite, f'suite {path}', {'title', 'data', 'tasks'})
    data = _as_dict(content['data'], f'suite {path}: data', "dict(NAME='folder')")
    entries = _as_dict(content['tasks'], f'suite {path}: tasks', 'dict(NAME=dict(...))')
    _check_folders(path, content, data, entries)
    tasks = tuple(_task(key, {**defaults, **_as_dict(value, f'task {key!r}', "dict(probe='knn', data=['NAME'])")}, data)
                  for key, value in entries.items())
    reported = _as_tuple(content.get('reported', ()), f'suite {path}: reported', 'a list of dicts')
    against = _as_tuple(content.get('against', ()), f'suite {path}: against', 'a list of names')
    encoders = read_entries(_as_dict(content.get('encoders', {}), f'suite {path}: encoders', 'dict(NAME=dict(...))'),
                            data)
    tasks = tuple(_with_data_task(task, tasks) for task in tasks)
    suite = Suite(name=path.stem, text=path.read_text(encoding='utf-8'), **{
        **content, 'tasks': tasks, 'reported': reported, 'encoders': encoders, 'against': against, 'folders': data})
    size = suite.image_size
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ValueError(f'suite {path} has image_size={size!r}: expected a number of pixels')
    for result in suite.reported:
        _check_reported(result, suite)
    _check_names(suite)
    return suite


def _check_folders(path: Path, content: dict[str, Any], data: dict[str, Any], tasks: dict[str, Any]) -> None:
    """Raises ValueError for names of tasks and data sets that would be other folders of results, and for non-texts."""
    if not isinstance(content['title'], str):
        raise ValueError(f'suite {path} has title={content["title"]!r}: expected a text')
    for kind, names in (('task', tasks), ('data set', data)):
        if not names:
            raise ValueError(f'suite {path} has no {kind}: give at least one')
        for name in names:
            if not isinstance(name, str):
                raise ValueError(f'the {kind} {name!r} has no text as its name: expected one such as {str(name)!r}')
            if set(name) & set('/\\') or name in ('', '.', '..'):
                raise ValueError(f'the {kind} {name!r} names a folder: expected a name without slashes, such as '
                                 f'{Path(name).name or "images"!r}')
    for name, folder in data.items():
        if not isinstance(folder, str):
            raise ValueError(f'data {name!r} is {folder!r}: expected the path of a folder in --data-root')


def _task(name: str, values: dict[str, Any], data: dict[str, str]) -> Task:
    _check_keys(values, Task, f'task {name!r}', {'data'})
    lists: dict[str, tuple[Any, ...]] = {
        key: _as_tuple(values[key], f'task {name!r}: {key}', 'a list') for key in ('data', 'labels', 'seeds')
        if key in values}
    unknown = [str(value) for value in lists['data'] if value not in list(data)]
    if unknown:
        raise ValueError(f'task {name!r} uses the data {", ".join(unknown)}: the suite has {", ".join(data)}')
    fields: dict[str, Any] = {**values, **lists}
    return Task(name=name, **fields)


def _with_data_task(task: Task, tasks: Sequence[Task]) -> Task:
    """Sets `data_task` of a peer. Returns other tasks unchanged.

    Raises:
        ValueError: the peer needs the config of the task that `compare_to` names, which has no config or several, or
            the task does not measure the metric of the peer.
    """
    data_task = next((other for other in tasks if other.name == task.compare_to), None)
    if task.peer in CONFIG_PEERS and (data_task is None or not isinstance(data_task.config, str)):
        trainings = ', '.join(other.name for other in tasks if isinstance(other.config, str))
        raise ValueError(f'task {task.name!r} has compare_to={task.compare_to!r}: the peer {task.peer} uses the data '
                         f'set of another task, which must have a single config: expected one of {trainings}')
    if task.peer in FOLDER_PEERS and data_task and TOP1 not in data_task.metrics.values():
        raise ValueError(f'task {task.name!r} is compared to {data_task.name!r}, which measures '
                         f'{", ".join(data_task.metrics.values())}: the peer {task.peer} measures {TOP1}. Name '
                         f"a metric of that task {TOP1!r}, as in metrics={{'accuracy/top1': "
                         f'{TOP1!r}}}')
    return dataclasses.replace(task, data_task=data_task)


def _check_names(suite: Suite) -> None:
    """Checks names that refer to other parts of the suite.

    Raises:
        ValueError: `compare_to`, or `against` or `on` of an encoder, has a name or value that is not in the suite, or
            two peers have the same place in the table.
    """
    trained = [task.name for task in suite.tasks if not task.peer]
    for task in suite.tasks:
        if task.compare_to is not None and task.compare_to not in trained:
            raise ValueError(f'task {task.name!r} is compared to {task.compare_to!r}: the suite has '
                             f'{", ".join(trained)}')
    cells: dict[tuple[object, ...], str] = {}
    for task in suite.tasks:
        for cell in itertools.product([task.peer], [task.compare_to or task.name], task.data, task.labels, task.seeds):
            other = cells.setdefault(cell, task.name)
            if task.peer and other != task.name:
                raise ValueError(f'tasks {other!r} and {task.name!r} have the same peer {task.peer} in the same row of '
                                 'the table: remove one of them, or give them different data, labels or seeds')
    known = {'random', *suite.encoders, *(entry.name for entry in suite.encoders.values())}
    missing = [name for name in suite.against if name not in known]
    if missing:
        raise ValueError(f'the suite compares with {", ".join(map(str, missing))}: expected random or a name in '
                         f'`encoders`, {", ".join(sorted(known))}')
    available: dict[str, set[Any]] = {
        'tasks': {task.name for task in suite.tasks}, 'data': set(suite.data),
        'labels': {fraction for task in suite.tasks for fraction in task.labels},
        'seeds': {seed for task in suite.tasks for seed in task.seeds}}
    for key, entry in suite.encoders.items():
        for part, values in entry.limits.items():
            unknown = [str(value) for value in values if value not in available[part]]
            if unknown:
                raise ValueError(f'encoder {key!r} is evaluated on the {part} {", ".join(unknown)}: the suite has '
                                 f'{", ".join(sorted(map(str, available[part])))}')


def _as_dict(value: object, what: str, expected: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'{what} is {value!r}: expected {expected}')
    return value


def _as_tuple(value: object, what: str, expected: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f'{what} is {value!r}: expected {expected}, such as [{value!r}]')
    return tuple(value)


def _check_keys(values: dict[str, Any], cls: type[Task | Suite], what: str, required: set[str]) -> None:
    keys = {entry.name for entry in dataclasses.fields(cls)} - {'name', 'text', 'folders', 'data_task'}
    unknown, missing = sorted(set(values) - keys), sorted(required - set(values))
    if unknown or missing:
        problem = f'has the unknown key {", ".join(unknown)}' if unknown else f'lacks {", ".join(missing)}'
        raise ValueError(f'{what} {problem}: its keys are {", ".join(sorted(keys))}')


def _check_reported(result: dict[str, Any], suite: Suite) -> None:
    """Raises ValueError for a published result that does not fit any row of the table."""
    keys = {'task', 'data', 'metric', 'arch', 'value', 'name', 'source'}
    if set(_as_dict(result, 'an entry of `reported`', f'a dict with {", ".join(sorted(keys))}')) != keys:
        raise ValueError(f'an entry of `reported` has {", ".join(result)}, expected {", ".join(sorted(keys))}')
    if result['task'] not in {task.name for task in suite.tasks} or result['data'] not in suite.data:
        raise ValueError(f'`reported` has a result for {result["task"]} on {result["data"]}: the suite has no '
                         'such task or data')
    if result['arch'] not in list(ARCHS):
        raise ValueError(f'`reported` has a result for the architecture {result["arch"]!r}: expected one of '
                         f'{", ".join(ARCHS)}')
    if not is_number(result['value']):
        raise ValueError(f'the result reported for {result["task"]} on {result["data"]} is {result["value"]!r}: '
                         'expected percent')
