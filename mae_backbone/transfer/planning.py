"""The plan of a benchmark: what every cell is about, and which cells make a job."""
import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmengine.config import Config

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import RANDOM, Architecture, Encoder, file_fingerprint, read_architecture
from mae_backbone.transfer.executors import Job
from mae_backbone.transfer.results import Outcome
from mae_backbone.transfer.suite import Cell, Suite, Task, cells_of


@dataclass(frozen=True)
class Benchmark:
    """What is run: a suite for some encoders, on the data in `data_root`, with everything written into `out`.

    Every checkpoint is read and hashed once, when that is first asked for.
    """

    suite: Suite
    encoders: tuple[Encoder, ...]
    data_root: Path
    out: Path
    root: Path  # the folder of `tools` and `configs`

    @property
    def references(self) -> list[str]:
        return [encoder.name for encoder in self.encoders if encoder.reference]

    @cached_property
    def architectures(self) -> dict[str, Architecture]:
        """That of each encoder; random weights take that of the first file."""
        found = {encoder.name: read_architecture(encoder.checkpoint) for encoder in self.encoders if encoder.checkpoint}
        first = next(iter(found.values()))
        return {encoder.name: found.get(encoder.name, first) for encoder in self.encoders}

    @cached_property
    def prints(self) -> dict[str, str]:
        """What tells the weights of each encoder from any other."""
        return {encoder.name: file_fingerprint(encoder.checkpoint) if encoder.checkpoint else RANDOM
                for encoder in self.encoders}

    def cells(self) -> list[Cell]:
        return list(cells_of(self.suite, [encoder.name for encoder in self.encoders]))

    def folder_of_data(self, name: str) -> Path:
        """Where a data set of the suite lies: --data-root, where that is the only one and holds no such folder."""
        inside = self.data_root / self.suite.data[name]
        return self.data_root if len(self.suite.data) == 1 and not inside.is_dir() else inside


def plan(benchmark: Benchmark) -> list[Job]:
    """Writes what every cell is about into its folder; returns the jobs, those on frozen features first.

    Cells on the same frozen features are one job: they are extracted once.

    Raises:
        ValueError: data that is not there, or a folder that holds results of something else.
    """
    suite, tasks = benchmark.suite, {task.name: task for task in benchmark.suite.tasks}
    for name in suite.data:
        if not benchmark.folder_of_data(name).is_dir():
            raise ValueError(f'the suite {suite.name} wants the data {name} in {benchmark.folder_of_data(name)}, which '
                             'does not exist: check --data-root')
    specs = _Specs(benchmark)
    probing: dict[tuple, list[Path]] = {}
    trainings = []
    for cell in benchmark.cells():
        task, folder = tasks[cell.task], benchmark.out / cell.folder
        spec, where = specs.of(cell, task)
        experiment_dir.write_spec(folder, spec, where)
        if task.probe:
            probing.setdefault((cell.data, cell.model, spec['weights_seed']), []).append(folder)
        else:
            trainings.append(Job('-'.join(cell.folder.parts[1:]), (folder,), task.gpus))
    names = itertools.count(1)
    return [Job(f'features-{next(names)}-{data}-{model.replace("/", "__")}', tuple(folders))
            for (data, model, _), folders in probing.items()] + trainings


def known_names(out: Path) -> dict[Path, str]:
    """The names of checkpoints in the cells of earlier runs, by their paths."""
    names = {}
    for file in sorted(out.glob(f'cells/*/*/*/*/*/{experiment_dir.SPEC}')):
        where = experiment_dir.read_spec(file.parent)['where']
        if where['checkpoint']:
            names[Path(where['checkpoint'])] = where.get('name', file.parent.name)  # old cells do not say
    return names


class _Specs:
    """What is written into the folders of cells; every config is read once."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.encoders = {encoder.name: encoder for encoder in benchmark.encoders}
        self.configs: dict[str, str] = {}

    def of(self, cell: Cell, task: Task) -> tuple[dict, dict]:
        benchmark, encoder = self.benchmark, self.encoders[cell.model]
        spec = {'kind': 'probe' if task.probe else 'train',
                'data_root': str(benchmark.folder_of_data(cell.data).resolve()), 'labels': cell.labels,
                'seed': cell.seed, 'weights': benchmark.prints[cell.model], 'options': task.options}
        architecture = benchmark.architectures[cell.model]
        if task.probe:
            spec |= {'probe': task.probe, 'architecture': architecture._asdict(),
                     'image_size': benchmark.suite.image_size or architecture.image_size,
                     'weights_seed': cell.seed if benchmark.suite.new_random_weights and not encoder.checkpoint else 0}
        else:
            config = task.config_for(architecture.name)
            spec |= {'config': config, 'config_print': self._config_print(config), 'metrics': task.metrics,
                     'scale': task.scale, 'gpus': task.gpus, 'amp': task.amp}
        where = {'root': str(benchmark.root), 'features': str((benchmark.out / 'features').resolve()),
                 'checkpoint': str(encoder.checkpoint.resolve()) if encoder.checkpoint else None, 'name': cell.model}
        return spec, where

    def _config_print(self, config: str) -> str:
        """Tells the content of a config, with that of its bases, from any other."""
        if config not in self.configs:
            path = self.benchmark.root / 'configs' / config
            if not path.is_file():
                raise ValueError(f'the suite {self.benchmark.suite.name} names the config {path}, which does not exist')
            cfg = Config.fromfile(path, import_custom_modules=False)
            content = json.dumps(cfg.to_dict(), sort_keys=True, default=str)
            self.configs[config] = hashlib.sha256(content.encode()).hexdigest()[:16]
        return self.configs[config]


def outcomes(benchmark: Benchmark) -> list[Outcome]:
    """What the finished cells came to."""
    found = []
    for cell in benchmark.cells():
        result = experiment_dir.result_of(benchmark.out / cell.folder)
        if result is not None:
            found.append(Outcome(cell.task, cell.data, cell.labels, cell.seed, cell.model, result['values'],
                                 result['seconds'], result.get('environment')))
    return found
