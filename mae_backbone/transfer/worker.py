"""Process that runs cells: `python -m mae_backbone.transfer.worker FOLDER ...`."""
import json
import math
import os
import re
import runpy
import shutil
import sys
import time
import traceback
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.environment import code_version, hardware
from mae_backbone.transfer.experiment_dir import Spec
from mae_backbone.transfer.image_results import to_text
from mae_backbone.transfer.recipe import encoder_file
from mae_backbone.utils.atomic_write import atomic_path, write_text
from mae_backbone.utils.run_logs import IMAGE_RESULTS, cpu_times, curve
from mae_backbone.utils.subprocesses import end_with_parent

METRICS = 'metrics.json'  # file that cli.validate_run writes into its work directory
_TOP1 = 'accuracy/top1'
PROGRAM, VALIDATION = 'mae_backbone', 'mae_backbone.cli.validate_run'  # modules that cells run as programs


def work(folders: Sequence[str]) -> None:
    """Runs cells one after the other, except those that are finished or that another process runs."""
    for folder in map(Path, folders):
        try:
            with experiment_dir.lock(folder):
                if experiment_dir.read_result(folder) is None:
                    run_cell(folder)
        except experiment_dir.LockedError as error:
            print(error, flush=True)


def run_cell(folder: Path) -> None:
    """Runs a cell and writes its `result.json` or `error.txt`. This process must have locked the folder."""
    spec = experiment_dir.read_spec(folder)
    (folder / experiment_dir.ERROR).unlink(missing_ok=True)
    start, reason, environment = time.time(), None, code_version()
    with redirect_output(folder / experiment_dir.LOG):
        try:
            check_weights(spec)
            result = _KINDS[spec['kind']](spec, folder)
        except SystemExit as end:
            if isinstance(end.code, int) and (end.code == 130 or 128 <= end.code < 160):
                raise  # a signal ended the process, which is not a failure of the cell
            reason = f'ended with exit code {end.code}'
        except Exception as error:
            traceback.print_exc()
            reason = experiment_dir.error_message(error)
    if reason is not None:
        experiment_dir.write_error(folder, reason)
        return
    result |= {'seconds': round(time.time() - start, 2), 'environment': environment | {'hardware': hardware()}}
    write_text(folder / experiment_dir.RESULT, json.dumps(result, indent=1))
    fault = experiment_dir.find_broken(folder)
    if fault is not None:  # otherwise the scheduler would run the cell again without end
        experiment_dir.write_error(folder, fault[1])


def check_weights(spec: Spec) -> None:
    """Checks that the checkpoint of a cell is the file that was planned, whose hash is in the spec.

    Raises:
        ValueError: another file is in its place, such as a later checkpoint of a pretraining that is still running.
    """
    checkpoint, planned = spec['where'].get('checkpoint'), str(spec.get('weights', ''))
    if not checkpoint or not Path(checkpoint).is_file() or not re.fullmatch('[0-9a-f]{64}', planned):
        return
    from mae_backbone.transfer.encoders import file_fingerprint
    if file_fingerprint(Path(checkpoint)) != planned:
        raise ValueError(f'{checkpoint} was replaced after the suite had started: pass a file that does not change, '
                         'and choose another --work-dir')


def train(spec: Spec, folder: Path) -> dict[str, Any]:
    """Runs `mae-backbone train`. Returns its last metrics, and their curves over the CPU time of the training."""
    run, checkpoint = folder / 'run', spec['where']['checkpoint']
    # The job may have fewer GPUs than the suite asks for.
    num_processes = min(spec['gpus'], len(os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')))
    config = spec['where']['config']
    options = dict(spec['options'])
    if not checkpoint:
        options['model.backbone.init_cfg'] = None  # the config may load pretrained weights
    common = ['--data-root', spec['data_root']]
    if num_processes > 1:
        common += ['--launcher', 'pytorch']
    if _TOP1 in spec['metrics']:
        options['default_hooks.image_results.type'] = 'mae_backbone.ImageResultsHook'
    common += _reader_option(spec.get('reader')) + _cfg_options(options)
    before = _curves(run, spec['metrics'])
    _run(PROGRAM, [
        'train', config, '--work-dir', str(run), '--resume', 'auto', '--seed', str(spec['seed']),
        '--labels', str(spec['labels']),  # also for 1.0, because the config may set another fraction
        *spec.get('length', []), *(['--pretrained', checkpoint] if checkpoint else []),
        *(['--amp'] if spec['amp'] else []), *common], num_processes)
    curves = _curves(run, spec['metrics'])
    if repr(curves) == repr(before):  # training was already complete; compared as text because nan != nan
        validated = folder / 'validation'
        metrics = _validate(config, run, validated, common, num_processes)
    else:
        validated = run
        metrics = {key: points[-1][1] for key, points in curves.items()}
    missing = [key for key in spec['metrics'] if key not in metrics]
    if missing:
        raise ValueError(f'the training has no {", ".join(missing)}, it has {", ".join(metrics)}: correct `metrics` of '
                         'the task in the suite')
    values = experiment_dir.in_percent(metrics, spec)
    notes = [f'without {title}, which is not defined: {experiment_dir.NO_OBJECTS}'
             for title in spec['metrics'].values() if title not in values]
    if num_processes < spec['gpus']:
        notes.append(f'trained by {num_processes} process{"es" if num_processes > 1 else ""} instead of '
                     f'{spec["gpus"]}: all batches of a step together are smaller')
    return {'values': values, 'notes': notes,
            **_time_to_quality(run, metrics, spec, values), **_image_results(validated, metrics)}


def _time_to_quality(run: Path, metrics: dict[str, float], spec: Spec, titles: Container[str]) -> dict[str, Any]:
    """Returns the minutes of a training, and the curve of each metric: [iteration, minutes, percent] per validation.

    Only metrics with one of the `titles` have a curve.

    The minutes are CPU time, or wall-clock time with a GPU, because CPU time does not include the work of a GPU.
    """
    recorded = cpu_times(run)
    if not recorded:  # tests replace the training by one without `CpuTimeHook`
        return {}
    clock = 'minutes' if os.environ.get('CUDA_VISIBLE_DEVICES') else 'cpu_minutes'
    recorded[-1]['metrics'] = recorded[-1]['metrics'] or metrics
    return {clock: recorded[-1][clock], 'curves': {
        title: [[record['iter'], record[clock], record['metrics'][key] * spec['scale']] for record in recorded
                if key in record['metrics']] for key, title in spec['metrics'].items()
        if title in titles}}


def _image_results(validated: Path, metrics: dict[str, float]) -> dict[str, Any]:
    """Returns the result of each validation image under 'correct', if the last validation has written these results."""
    path = validated / IMAGE_RESULTS
    if _TOP1 not in metrics or not path.is_file():
        return {}
    correct = np.array(json.loads(path.read_text(encoding='utf-8')), bool)
    # If a run was killed, the file may be from an older validation. In this case it does not agree with the metric.
    same = len(correct) and math.isclose(100 * float(np.mean(correct)), metrics[_TOP1], abs_tol=1e-6)
    return {'correct': to_text(correct)} if same else {}


def encoder(spec: Spec, folder: Path) -> dict[str, Any]:
    """Trains an encoder by `mae-backbone pretrain` or `train`, and copies its last checkpoint to `encoder_file`."""
    from mae_backbone.checkpoints.run_files import resume_path
    run, start = folder / 'run', spec['where']['start']
    options = dict(spec['options'])
    if not start and spec['command'] == 'train':
        options['model.backbone.init_cfg'] = None  # the config may load pretrained weights
    _run(PROGRAM, [
        spec['command'], spec['where']['config'], '--work-dir', str(run), '--resume', 'auto', '--seed',
        str(spec['seed']), *spec.get('length', []), *(['--pretrained', start] if start else []),
        *(['--amp'] if spec.get('amp') else []),
        '--data-root', spec['data_root'], *_cfg_options(options)], 1)
    checkpoint = resume_path('auto', run)
    if checkpoint is None:
        raise ValueError(f'{run} has no checkpoint: the config must save one at the end of the training')
    with atomic_path(encoder_file(folder)) as temporary:
        shutil.copyfile(checkpoint, temporary)
    recorded = cpu_times(run)
    times = {clock: recorded[-1][clock] for clock in ('cpu_minutes', 'minutes')} if recorded else {}
    return {'values': {'loss': curve(run, 'loss')[-1][1]}, 'files': [encoder_file(folder).name], **times}


def _reader_option(reader: dict[str, Any] | None) -> list[str]:
    """Returns the arguments for --reader."""
    if reader is None:
        return []
    return ['--reader', reader['type'], *(f'{key}={value!r}' for key, value in reader.items() if key != 'type')]


def _cfg_options(options: dict[str, Any]) -> list[str]:
    """Returns the arguments for --cfg-options, and adds the hook that measures the time of the training."""
    options = {'default_hooks.cpu_time.type': 'mae_backbone.CpuTimeHook', **options}
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]


def _curves(run: Path, keys: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """Returns the values [(iteration, value)] that a training has logged so far, by name of the metric."""
    curves = {}
    for key in keys:
        with suppress(ValueError):  # the metric is not logged yet
            curves[key] = curve(run, key)
    return curves


def _validate(config: str, run: Path, work_dir: Path, common: Sequence[str], num_processes: int) -> dict[str, float]:
    """Validates the last checkpoint of a training that was already complete. Returns its metrics."""
    _run(VALIDATION, [config, str(run), '--work-dir', str(work_dir), *common], num_processes)
    return json.loads((work_dir / METRICS).read_text(encoding='utf-8'))


def _run(module: str, arguments: Sequence[str], num_processes: int) -> None:
    """Runs a module as a program: in this process, or in several processes that torchrun starts.

    If a signal ends torchrun, this process exits with 128 + the number of the signal, as our commands do.
    """
    if num_processes == 1:
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name='__main__', alter_sys=True)
        return
    from torch.distributed.elastic.multiprocessing.api import SignalException
    sys.argv = ['torchrun', '--standalone', '--nproc_per_node', str(num_processes), '-m', module, *arguments]
    try:
        runpy.run_module('torch.distributed.run', run_name='__main__', alter_sys=True)
    except SignalException as end:
        sys.exit(128 + end.sigval)


def probe(spec: Spec, folder: Path) -> dict[str, Any]:
    """Evaluates frozen features by a probe."""
    from mae_backbone.transfer.probes import run_probe
    return run_probe(spec)


def peer(spec: Spec, folder: Path) -> dict[str, Any]:
    """Trains a peer, a model for comparison, from scratch."""
    from mae_backbone.transfer.peers.registry import train_peer
    return train_peer(spec)


def figures(spec: Spec, folder: Path) -> dict[str, Any]:
    """Draws figures of the report."""
    from mae_backbone.transfer.figures import draw_figures
    return draw_figures(spec, folder)


_KINDS = {'train': train, 'encoder': encoder, 'probe': probe, 'peer': peer, 'pictures': figures}


@contextmanager
def redirect_output(path: Path) -> Iterator[None]:
    """Appends everything that this process and its children print to the file `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
    path.touch()  # the scheduler takes the cell whose log was written last as the running one
    before = os.dup(1), os.dup(2)
    with open(path, 'ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), before, strict=True):
            os.dup2(copy, number)
            os.close(copy)


if __name__ == '__main__':
    end_with_parent()
    work(sys.argv[1:])
