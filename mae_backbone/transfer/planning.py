"""Plan of an experiment: the spec of every cell, and the jobs that run the cells."""
import copy
import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_backbone.checkpoints.architecture import read_architecture
from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.formats.registry import formats_in
from mae_backbone.models.timm_vit import DOWNLOAD
from mae_backbone.planning.adapt_config import replace_data_root
from mae_backbone.planning.timm_backbone import timm_overrides
from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import Encoder
from mae_backbone.transfer.executors import Job
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.results import CellResult
from mae_backbone.transfer.suite import Cell, Suite, Task, cells_of
from mae_backbone.transfer.timm_encoder import probe_size, timm_architecture
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.config_files import find_config


@dataclass(frozen=True)
class Experiment:
    """A suite that is run for some encoders.

    Every checkpoint is read and hashed once, when this is first needed.

    Attributes:
        suite: tasks to run.
        encoders: encoders to evaluate and to compare with.
        data_root: folder of the data sets.
        work_dir: output folder.
    """

    suite: Suite
    encoders: tuple[Encoder, ...]
    data_root: Path
    work_dir: Path

    @property
    def references(self) -> list[str]:
        """Names of the encoders that the others are compared with."""
        return [encoder.name for encoder in self.encoders if encoder.reference]

    @cached_property
    def architectures(self) -> dict[str, dict[str, Any]]:
        """Architecture of each encoder by name: an `EncoderArchitecture` as a dict, with 'timm' for a model of timm.

        Random weights have the architecture of the first checkpoint.
        """
        architectures: dict[str, dict[str, Any]] = {}
        for encoder in self.encoders:
            if encoder.timm:
                architectures[encoder.name] = timm_architecture(encoder.timm)
            elif encoder.checkpoint:
                architectures[encoder.name] = read_architecture(encoder.checkpoint)._asdict()
        first = next(iter(architectures.values()))
        return {encoder.name: architectures.get(encoder.name, first) for encoder in self.encoders}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Hash of the weights of each encoder by name."""
        return {encoder.name: encoder.fingerprint for encoder in self.encoders}

    def cells(self) -> list[Cell]:
        """Returns all cells, task by task."""
        return list(cells_of(self.suite, [encoder.name for encoder in self.encoders]))

    def data_folder(self, name: str) -> Path:
        """Returns the folder of a data set: --data-root itself if it is the only data set and has no such folder."""
        inside = self.data_root / self.suite.data[name]
        return self.data_root if len(self.suite.data) == 1 and not inside.is_dir() else inside


def plan(experiment: Experiment) -> list[Job]:
    """Writes the spec of every cell into its folder and returns the jobs, those on frozen features first.

    Cells on the same frozen features form one job, so that the features are extracted once.

    Raises:
        ValueError: data do not exist, or a folder holds results of another experiment.
    """
    suite, tasks = experiment.suite, {task.name: task for task in experiment.suite.tasks}
    for name in suite.data:
        if not experiment.data_folder(name).is_dir():
            raise ValueError(f'the suite {suite.name} needs the data {name} in {experiment.data_folder(name)}, which '
                             'does not exist: check --data-root')
    specs = _Specs(experiment)
    probes: dict[tuple[str, str, int], list[Path]] = {}
    trainings = []
    for cell in experiment.cells():
        task, folder = tasks[cell.task], experiment.work_dir / cell.folder
        spec, where = specs.spec(cell, task)
        experiment_dir.write_spec(folder, spec, where)
        if task.probe:
            probes.setdefault((cell.data, cell.model, spec['weights_seed']), []).append(folder)
        else:
            trainings.append(Job('-'.join(cell.folder.parts[1:]), (folder,), task.gpus))
    numbers = itertools.count(1)
    return [Job(f'features-{next(numbers)}-{data}-{model.replace("/", "__")}', tuple(folders))
            for (data, model, _), folders in probes.items()] + trainings


def set_aside_broken(experiment: Experiment) -> list[str]:
    """Renames broken files in the folders of the cells and of the figures. Returns a line for each."""
    folders = [experiment.work_dir / cell.folder for cell in experiment.cells()]
    folders += sorted(file.parent for file in experiment.work_dir.glob(f'cells/pictures-*/{experiment_dir.SPEC}'))
    renamed = map(experiment_dir.set_aside_broken, folders)
    return [line for line in renamed if line is not None]


def known_names(work_dir: Path) -> dict[Path, str]:
    """Returns the names that checkpoints have in the cells of earlier runs, by path."""
    names = {}
    for file in sorted(work_dir.glob(f'cells/*/*/*/*/*/{experiment_dir.SPEC}')):
        try:
            where = experiment_dir.read_spec(file.parent)['where']
        except experiment_dir.BrokenResultError:  # set aside later
            continue
        if where.get('checkpoint') not in (None, DOWNLOAD):
            names[Path(where['checkpoint'])] = where.get('name', file.parent.name)  # earlier versions wrote no name
    return names


class _Specs:
    """Builds the specs of cells. Reads every config once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.encoders = {encoder.name: encoder for encoder in experiment.encoders}
        self.configs: dict[str, tuple[Path, str, Config]] = {}
        self.classes: dict[tuple[str, str | None], list[str]] = {}

    def spec(self, cell: Cell, task: Task) -> tuple[Spec, dict[str, Any]]:
        """Returns the spec of a cell and the paths that it uses."""
        experiment, encoder = self.experiment, self.encoders[cell.model]
        spec: Spec = {
            'kind': 'probe' if task.probe else 'train', 'data_root': str(experiment.data_folder(cell.data).resolve()),
            'labels': cell.labels, 'seed': cell.seed, 'weights': experiment.fingerprints[cell.model],
            'options': task.options}
        where: dict[str, Any] = {
            'features': str((experiment.work_dir / 'features').resolve()), 'name': cell.model,
            'checkpoint': encoder.weights}
        architecture = experiment.architectures[cell.model]
        if task.probe:
            new_weights = experiment.suite.new_random_weights and encoder.weights is None
            spec |= {'probe': task.probe, 'architecture': architecture,
                     'image_size': probe_size(experiment.suite.image_size, architecture),
                     'weights_seed': cell.seed if new_weights else 0}
        else:
            config = task.config_for(architecture['name'])
            path, fingerprint, _ = self._config(config)
            if 'timm' in architecture:
                path, fingerprint = self._timm_config(config, cell.model, architecture['timm']['options'])
            spec |= {'config': config, 'config_print': fingerprint, 'metrics': task.metrics, 'scale': task.scale,
                     'gpus': task.gpus, 'amp': task.amp}
            where['config'] = str(path)
        classes = self._classes(cell.data, None if task.probe else config)
        if classes:
            spec[experiment_dir.CLASSES] = classes
        return spec, where

    def _classes(self, data: str, config: str | None) -> list[str]:
        """Returns the sorted class names of a data set as a config reads it, or as a probe does; [] if unknown.

        They are part of the spec: results for other classes must not end up in the same table.
        """
        if (data, config) not in self.classes:
            folder = str(self.experiment.data_folder(data))
            try:
                names = _config_classes(self.configs[config][2], folder) if config else \
                    ClassFolder(folder, 'train', train=False).classes
            except (ValueError, OSError):  # the cell fails and reports it
                names = []
            self.classes[data, config] = sorted(map(str, names))
        return self.classes[data, config]

    def _config(self, config: str) -> tuple[Path, str, Config]:
        """Returns the path of a `Task.config`, a hash of its content including its bases, and the config."""
        if config not in self.configs:
            # The scope keeps a file of the current folder with that name from being found.
            name = config if Path(config).is_absolute() else f'mae_backbone::{config}'
            try:
                path = find_config(name)
            except FileNotFoundError as error:
                raise ValueError(f'the suite {self.experiment.suite.name} uses a config that does not exist: {error}'
                                 ) from error
            cfg = Config.fromfile(path, import_custom_modules=False)
            content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
            self.configs[config] = path, hashlib.sha256(content.encode()).hexdigest()[:16], cfg
        return self.configs[config]

    def _timm_config(self, config: str, model: str, options: dict[str, Any]) -> tuple[Path, str]:
        """Writes a config that inherits `config`, with a model of timm as backbone. Returns its path and a hash."""
        path, base, cfg = self._config(config)
        options = dict(options)
        overrides = timm_overrides(cfg, options.pop('name'), options)
        fingerprint = hashlib.sha256(f'{base}{overrides!r}'.encode()).hexdigest()[:16]
        file = self.experiment.work_dir.resolve() / 'configs' / f'{path.stem}_{fingerprint}.py'
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"_base_ = ['{path.resolve().as_posix()}']", *(f'{key} = {value!r}'
                                                                   for key, value in overrides.items())]
            write_text(file, f'"""{path.stem} with {model} as backbone."""\n' + '\n'.join(lines) + '\n')
        return file, fingerprint


def _config_classes(cfg: Config, data_root: str) -> list[str]:
    cfg = copy.deepcopy(cfg)
    replace_data_root(cfg, data_root)
    return next((names for data_format in formats_in(cfg) if data_format.spec.is_local
                 for names in [data_format.classes()[0]] if names), [])


def cell_results(experiment: Experiment) -> list[CellResult]:
    """Returns the results of the finished cells."""
    results = []
    for cell in experiment.cells():
        result = experiment_dir.read_result(experiment.work_dir / cell.folder)
        if result is not None:
            results.append(CellResult(cell.task, cell.data, cell.labels, cell.seed, cell.model, result['values'],
                                      result['seconds'], result.get('environment'), result.get('notes', [])))
    return results
