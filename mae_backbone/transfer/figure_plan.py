"""Jobs that draw the figures of a report: features of the encoders on each data set, and predictions after training."""
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.encoders import Encoder, last_of_runs
from mae_backbone.transfer.executors import Job
from mae_backbone.transfer.experiment import Experiment
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.suite import Cell
from mae_backbone.transfer.task import Task


def plan_figures(experiment: Experiment) -> list[Job]:
    """Returns the jobs that draw figures: one for each data set, and one for each training with a finished cell."""
    encoders = [encoder for encoder in last_of_runs(experiment.encoders) if not encoder.recipe
                or experiment_dir.read_result(experiment.made.folder(encoder.key)) is not None]
    jobs = [_job(experiment, f'Encoders on {experiment.data_names[data]}', *_encoder_figures(experiment, here, data))
            for data in experiment.suite.data
            if (here := [encoder for encoder in encoders if encoder.is_for(data)])]
    for task in experiment.suite.tasks:
        for data in task.data if task.config else ():
            cells = _finished_cells(experiment, encoders, task, data)
            if cells:
                jobs.append(_job(experiment, f'{task.name.capitalize()} on {experiment.data_names[data]}',
                                 *_prediction_figures(experiment, task, cells)))
    return jobs


def _encoder_figures(experiment: Experiment, encoders: Sequence[Encoder], data: str) -> tuple[Spec, dict[str, Any]]:
    classes = any(task.probe for task in experiment.suite.tasks if data in task.data)
    spec = {'kind': 'pictures', 'of': 'encoders', 'data_root': str(experiment.data_folder(data).resolve()),
            'classes': classes, 'image_size': experiment.suite.image_size if classes else None,
            'encoders': [{'name': encoder.name, 'architecture': experiment.architectures[encoder.name, data],
                          'weights': experiment.fingerprints[encoder.name, data],
                          **({'decoder': False} if encoder.recipe and encoder.recipe.command == 'train' else {})}
                         for encoder in encoders]}
    return spec, {'features': str((experiment.work_dir / 'features').resolve()),
                  'checkpoints': [experiment.weights(encoder) for encoder in encoders]}


def _finished_cells(experiment: Experiment, encoders: Sequence[Encoder], task: Task, data: str) -> list[Cell]:
    """Returns the finished cells of a task with the largest fraction of the labels and the first seed."""
    cells = [Cell(task.name, data, max(task.labels), task.seeds[0], encoder.name) for encoder in encoders
             if encoder.is_for(data)]
    return [cell for cell in cells if experiment_dir.read_result(experiment.work_dir / cell.folder) is not None]


def _prediction_figures(experiment: Experiment, task: Task, cells: Sequence[Cell]) -> tuple[Spec, dict[str, Any]]:
    folders = [experiment.work_dir / cell.folder for cell in cells]
    specs = [experiment_dir.read_spec(folder) for folder in folders]
    common = {key: specs[0][key] for key in ('data_root', 'labels', 'seed')}
    # Encoders of different architectures have different configs.
    own = ('weights', 'config', 'config_print', 'options', 'amp', 'length', 'reader', experiment_dir.CLASSES)
    spec = {'kind': 'pictures', 'of': 'predictions', **common, 'images': task.pictures,
            'encoders': [{'name': cell.model, **{key: spec[key] for key in own if key in spec}}
                         for cell, spec in zip(cells, specs, strict=True)]}
    return spec, {'configs': [spec['where']['config'] for spec in specs],
                  'runs': [str((folder / 'run').resolve()) for folder in folders]}


def _job(experiment: Experiment, title: str, spec: Spec, where: dict[str, Any]) -> Job:
    """Writes the spec of figures and returns their job.

    The name of the folder contains a hash of the spec, so that the report never shows outdated figures.
    """
    spec = {'title': title, **spec}
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:10]
    name = f'pictures-{title.lower().replace(" ", "-")}-{digest}'
    folder = experiment.work_dir / 'cells' / name
    experiment_dir.write_spec(folder, spec, where)
    return Job(name, (folder,))
