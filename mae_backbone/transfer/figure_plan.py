"""Which pictures a report shows: of the encoders alone, and of what trainings from them predict."""
import hashlib
import json
from collections.abc import Sequence

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import Encoder, last_of_runs
from mae_backbone.transfer.executors import Job
from mae_backbone.transfer.planning import Benchmark
from mae_backbone.transfer.suite import Cell, Task


def plan_pictures(benchmark: Benchmark) -> list[Job]:
    """Jobs that draw: for each data set what the encoders see in it, for each training what came of it."""
    encoders = last_of_runs(benchmark.encoders)
    jobs = [_job(benchmark, f'Encoders on {data}', *_of_encoders(benchmark, encoders, data))
            for data in benchmark.suite.data]
    for task in benchmark.suite.tasks:
        for data in task.data if task.config else ():
            cells = _finished(benchmark, encoders, task, data)
            if cells:
                jobs.append(_job(benchmark, f'{task.name.capitalize()} on {data}',
                                 *_of_training(benchmark, task, cells)))
    return jobs


def _of_encoders(benchmark: Benchmark, encoders: Sequence[Encoder], data: str) -> tuple[dict, dict]:
    classes = any(task.probe for task in benchmark.suite.tasks if data in task.data)
    spec = {'kind': 'pictures', 'of': 'encoders', 'data_root': str(benchmark.folder_of_data(data).resolve()),
            'classes': classes, 'image_size': benchmark.suite.image_size if classes else None,
            'encoders': [{'name': encoder.name, 'architecture': benchmark.architectures[encoder.name]._asdict(),
                          'weights': benchmark.prints[encoder.name]} for encoder in encoders]}
    return spec, {'root': str(benchmark.root), 'features': str((benchmark.out / 'features').resolve()),
                  'checkpoints': [encoder.checkpoint and str(encoder.checkpoint.resolve()) for encoder in encoders]}


def _finished(benchmark: Benchmark, encoders: Sequence[Encoder], task: Task, data: str) -> list[Cell]:
    """The cells of a training that are done, with all labels that it had and the first seed."""
    cells = [Cell(task.name, data, max(task.labels), task.seeds[0], encoder.name) for encoder in encoders]
    return [cell for cell in cells if experiment_dir.result_of(benchmark.out / cell.folder) is not None]


def _of_training(benchmark: Benchmark, task: Task, cells: Sequence[Cell]) -> tuple[dict, dict]:
    folders = [benchmark.out / cell.folder for cell in cells]
    specs = [experiment_dir.read_spec(folder) for folder in folders]
    same = {key: specs[0][key] for key in ('data_root', 'labels', 'seed')}
    each = ('weights', 'config', 'config_print', 'options')  # another architecture has another config
    spec = {'kind': 'pictures', 'of': 'predictions', **same, 'images': task.pictures,
            'encoders': [{'name': cell.model, **{key: spec[key] for key in each}}
                         for cell, spec in zip(cells, specs, strict=True)]}
    return spec, {'root': str(benchmark.root), 'runs': [str((folder / 'run').resolve()) for folder in folders]}


def _job(benchmark: Benchmark, title: str, spec: dict, where: dict) -> Job:
    """Pictures of something else have another folder, so that old ones are never shown as new."""
    spec = {'title': title, **spec}
    mark = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:10]
    name = f'pictures-{title.lower().replace(" ", "-")}-{mark}'
    folder = benchmark.out / 'cells' / name
    experiment_dir.write_spec(folder, spec, where)
    return Job(name, (folder,))
