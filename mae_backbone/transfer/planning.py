"""Plan of an experiment: the settings ("spec") of every cell, and the jobs that run the cells."""
import copy
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.formats.registry import formats_in
from mae_backbone.models.timm_vit import DOWNLOAD
from mae_backbone.planning.adapt_config import replace_data_root
from mae_backbone.planning.timm_backbone import timm_overrides
from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.data_files import describe_files
from mae_backbone.transfer.encoder_reader import check_color
from mae_backbone.transfer.encoders import Encoder
from mae_backbone.transfer.executors import Job
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.recipe import with_starts
from mae_backbone.transfer.results import CellResult
from mae_backbone.transfer.suite import Cell
from mae_backbone.transfer.task import CONFIG_PEERS, Task
from mae_backbone.transfer.timm_encoder import probe_size
from mae_backbone.utils.atomic_write import write_text


def plan(experiment: Experiment) -> list[Job]:
    """Writes the spec of every cell into its folder and returns the jobs in the order in which they start.

    Probes that use the same frozen features form one job, so that the features are extracted once. These jobs start
    first. Trainings are ordered by seed: if the run is stopped, all comparisons of the first seeds are complete. Peers,
    and encoders that are evaluated on only some of the tasks, labels or seeds, are last. An encoder that the suite
    trains is trained before the first job that needs it.

    Raises:
        ValueError: a data set does not exist, or has a single class for a probe, an encoder has the name of a peer, or
            a folder contains results of another experiment.
    """
    suite = experiment.suite
    for name in suite.data:
        if not experiment.data_folder(name).is_dir():
            raise ValueError(f'the suite {suite.name} needs the data {name} in {experiment.data_folder(name)}, which '
                             'does not exist: check --data-root')
    mixed = sorted({task.peer for task in suite.tasks if task.peer} & set(experiment.models))
    if mixed:
        raise ValueError(f'an encoder and a peer have the same name {", ".join(mixed)}, and so the same row in the '
                         'table: rename the file of the encoder, or its entry in `encoders` of the suite')
    cells = experiment.cells()
    specs = _Specs(experiment)
    with_encoder = [specs.encoder(cell) for cell in cells if not experiment.task(cell).peer]
    encoder_jobs = experiment.made.jobs(dict.fromkeys(encoder.key for encoder in with_encoder if encoder.recipe))
    probes: dict[tuple[str, str, int], list[Path]] = {}
    jobs: list[tuple[tuple[bool, bool, int], str, Job]] = []  # order, key of the encoder, job
    for cell in cells:
        task, folder = experiment.task(cell), experiment.work_dir / cell.folder
        spec, where = specs.spec(cell, task)
        if task.probe and len(spec.get(experiment_dir.CLASSES, ())) == 1:
            raise ValueError(f'{experiment.data_folder(cell.data)} has a single class, expected two or more '
                             'for a probe: add images of another class, such as the background')
        experiment_dir.write_spec(folder, spec, where)
        if task.probe:
            probes.setdefault((cell.data, cell.model, spec['weights_seed']), []).append(folder)
        else:
            job = Job('-'.join(cell.folder.parts[1:]), (folder,), task.gpus)
            key, extra = ('', True) if task.peer else _key_and_extra(specs.encoder(cell))
            jobs.append(((extra, True, task.seeds.index(cell.seed)), key, job))
    numbers = itertools.count(1)
    for (data, model, _), folders in probes.items():
        job = Job(f'features-{next(numbers)}-{data}-{model.replace("/", "__")}', tuple(folders))
        key, extra = _key_and_extra(specs.encoders[model, data])
        jobs.append(((extra, False, 0), key, job))
    return _with_encoders(experiment, sorted(jobs, key=lambda entry: entry[0]), encoder_jobs)


def _key_and_extra(encoder: Encoder) -> tuple[str, bool]:
    return encoder.key, encoder.entry is not None and encoder.entry.is_extra


def _with_encoders(experiment: Experiment, jobs: Sequence[tuple[Any, str, Job]], encoder_jobs: Mapping[str, Job]
                   ) -> list[Job]:
    """Inserts each job that trains an encoder before the first job that needs the encoder."""
    planned: list[Job] = []
    for _, key, job in jobs:
        if key and experiment.suite.encoders[key].recipe:
            for start in with_starts([key], experiment.suite.encoders):
                needed = encoder_jobs[experiment.made.same_as(start)]
                if needed not in planned:
                    planned.append(needed)
            job = job._replace(after=(experiment.made.folder(key),))
        planned.append(job)
    return planned


def set_aside_broken(experiment: Experiment) -> list[str]:
    """Renames broken files in the folders of cells, trained encoders and figures. Returns a message for each."""
    folders = [experiment.work_dir / cell.folder for cell in experiment.cells()]
    folders += sorted(file.parent for file in experiment.work_dir.glob(f'encoders/**/{experiment_dir.SPEC}'))
    folders += sorted(file.parent for file in experiment.work_dir.glob(f'cells/pictures-*/{experiment_dir.SPEC}'))
    renamed = map(experiment_dir.set_aside_broken, folders)
    return [line for line in renamed if line is not None]


def known_names(work_dir: Path) -> dict[Path, str]:
    """Returns the names that checkpoints had in earlier runs in `work_dir`, by the path of the checkpoint."""
    names = {}
    for file in sorted(work_dir.glob(f'cells/*/*/*/*/*/{experiment_dir.SPEC}')):
        try:
            where = experiment_dir.read_spec(file.parent)['where']
        except experiment_dir.BrokenResultError:  # renamed later by `set_aside_broken`
            continue
        if where.get('checkpoint') not in (None, DOWNLOAD):
            # Earlier versions of this package did not write the name.
            names[Path(where['checkpoint'])] = where.get('name', file.parent.name)
    return names


class _Specs:
    """Builds the specs of cells."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.configs = experiment, experiment.configs
        self.encoders = {(encoder.name, data): encoder for encoder in experiment.encoders
                         for data in experiment.suite.data if encoder.is_for(data)}
        self.classes: dict[tuple[str, str | None], list[str]] = {}
        self.files = {name: describe_files(experiment.data_folder(name), experiment.work_dir)
                      for name in experiment.suite.data}

    def encoder(self, cell: Cell) -> Encoder:
        """Returns the encoder of a cell, which must not be a cell of a peer."""
        return self.encoders[cell.model, cell.data]

    def spec(self, cell: Cell, task: Task) -> tuple[Spec, dict[str, Any]]:
        """Returns the spec of a cell, and the paths of its files (arguments `spec` and `where` of `write_spec`)."""
        spec, where = self._peer_spec(cell, task) if task.peer else self._encoder_spec(cell, task)
        return spec | {experiment_dir.FILES: self.files[cell.data]}, where

    def _encoder_spec(self, cell: Cell, task: Task) -> tuple[Spec, dict[str, Any]]:
        experiment, encoder = self.experiment, self.encoder(cell)
        spec: Spec = {
            'kind': 'probe' if task.probe else 'train', 'data_root': str(experiment.data_folder(cell.data).resolve()),
            'labels': cell.labels, 'seed': cell.seed, 'weights': experiment.fingerprints[cell.model, cell.data],
            'options': task.options}
        where: dict[str, Any] = {
            'features': str((experiment.work_dir / 'features').resolve()), 'name': cell.model,
            'checkpoint': experiment.weights(encoder)}
        architecture = experiment.architectures[cell.model, cell.data]
        if task.probe:
            new_weights = experiment.suite.new_random_weights and where['checkpoint'] is None
            spec |= {'probe': task.probe, 'architecture': architecture,
                     'image_size': probe_size(experiment.suite.image_size, architecture),
                     'weights_seed': cell.seed if new_weights else 0}
        else:
            config = task.config_for(architecture['name'])
            path, fingerprint, _ = self.configs.read(config)
            if 'timm' in architecture:
                path, fingerprint = self._timm_config(config, cell.model, architecture['timm']['options'])
            spec |= {'config': config, 'config_print': fingerprint, 'metrics': task.metrics, 'scale': task.scale,
                     'gpus': task.gpus, 'amp': task.amp}
            if encoder.entry and encoder.entry.training:
                spec['options'] = {**task.options, **encoder.entry.training}
            length = self.configs.length(config, task.length, experiment.length)
            if length:
                spec['length'] = length
            if 'reader' in architecture and not self.configs.stated_reader(config, spec['options']):
                spec['reader'] = architecture['reader']
            where['config'] = str(path)
        classes = self._classes(cell.data, None if task.probe else config, architecture.get('reader'))
        if classes:
            spec[experiment_dir.CLASSES] = classes
        return spec, where

    def _peer_spec(self, cell: Cell, task: Task) -> tuple[Spec, dict[str, Any]]:
        spec: Spec = {
            'kind': 'peer', 'peer': task.peer, 'data_root': str(self.experiment.data_folder(cell.data).resolve()),
            'labels': cell.labels, 'seed': cell.seed, 'minutes': (task.minutes or 0) * self.experiment.length,
            'options': task.options, **({'amp': True} if task.amp else {})}
        where: dict[str, Any] = {'name': cell.model, 'checkpoint': None}
        config: str | None = None
        data_task = task.data_task
        reader = self._peer_reader(cell, task)
        if reader:
            spec['reader'] = reader
        if data_task is not None and task.peer in CONFIG_PEERS:
            config = data_task.config_for(None)
            path, fingerprint, _ = self.configs.read(config)
            spec |= {'config': config, 'config_print': fingerprint, 'config_options': data_task.options,
                     'metrics': data_task.metrics, 'scale': data_task.scale}
            where['config'] = str(path)
        classes = self._classes(cell.data, config, reader)
        return spec | ({experiment_dir.CLASSES: classes} if classes else {}), where

    def _peer_reader(self, cell: Cell, task: Task) -> dict[str, Any] | None:
        """Returns the reader by which a peer must read images to see the pixels that the encoders see.

        It is the reader of the config of the task that the peer is compared with, or else of the encoders. Returns None
        for color images with 8 bits, and for a peer that uses a config with a reader.

        Raises:
            ValueError: the images are not color images.
        """
        data_task = task.data_task
        configs = data_task.config if data_task else None
        paths = [configs] if isinstance(configs, str) else [*(configs or {}).values()]
        options = data_task.options if data_task and data_task.config else {}
        own = next((reader for path in paths if (reader := self.configs.stated_reader(path, options))), None)
        shared = next((architecture['reader'] for (_, data), architecture in self.experiment.architectures.items()
                       if data == cell.data and 'reader' in architecture), None)
        reader = own or shared
        if reader is not None:
            check_color(str(task.peer), reader)
        return None if own and task.peer in CONFIG_PEERS else reader

    def _classes(self, data: str, config: str | None, reader: dict[str, Any] | None = None) -> list[str]:
        """Returns the sorted class names of a data set; [] if they are unknown.

        They are part of the spec, so that results for other classes never appear in the same table.

        Args:
            data: name of the data set.
            config: config that reads the data set; None for the class folders that probes read.
            reader: reader of the images in class folders; None for color images.
        """
        key = data, config or repr(reader)
        if key not in self.classes:
            folder = str(self.experiment.data_folder(data))
            try:
                names = _config_classes(self.configs.read(config).cfg, folder) if config else \
                    ClassFolder(folder, 'train', train=False, reader=reader).classes
            except (ValueError, OSError):  # the cell will fail and report this error
                names = []
            self.classes[key] = sorted(map(str, names))
        return self.classes[key]

    def _timm_config(self, config: str, model: str, options: dict[str, Any]) -> tuple[Path, str]:
        """Writes a config that inherits `config` and has a timm model as backbone. Returns its path and its hash."""
        path, base, cfg = self.configs.read(config)
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
            results.append(CellResult(experiment.task(cell).compare_to or cell.task, cell.data, cell.labels, cell.seed,
                                      cell.model, result['values'], result['seconds'], result.get('environment'),
                                      result.get('notes', []),
                                      result.get('cpu_minutes', result.get('minutes')), result.get('curves', {}),
                                      result.get('correct'),
                                      'minutes' if result.keys() & {'minutes', 'cpu_minutes'} == {'minutes'}
                                      else 'cpu_minutes'))
    return results
