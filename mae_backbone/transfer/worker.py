"""Works through cells in a process of its own: `python -m mae_backbone.transfer.worker FOLDER ...`."""
import json
import os
import runpy
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.environment import code, hardware
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.run_logs import curve
from mae_backbone.utils.subprocesses import end_with_parent

METRICS = 'metrics.json'  # of a validation, in its work directory


def work(folders: Sequence[str]) -> None:
    """Runs the cells one after the other, but for those that are done or that another process has."""
    for folder in map(Path, folders):
        try:
            with experiment_dir.claim(folder):
                if experiment_dir.result_of(folder) is None:
                    run_cell(folder)
        except experiment_dir.LockedError as taken:
            print(taken, flush=True)


def run_cell(folder: Path) -> None:
    """Runs a cell whose claim this process has: its outcome is a `result.json` or an `error.txt`."""
    spec = experiment_dir.read_spec(folder)
    (folder / experiment_dir.ERROR).unlink(missing_ok=True)
    begin, reason, about = time.time(), None, code(Path(spec['where']['root']))
    with output_to(folder / experiment_dir.LOG):
        try:
            found = _KINDS[spec['kind']](spec, folder)
        except SystemExit as end:
            if end.code in (130, *range(128, 160)):  # told to stop: not the cell's fault
                raise
            reason = f'ended with exit code {end.code}'
        except Exception as error:
            traceback.print_exc()
            reason = experiment_dir.reason_of(error)
    if reason is not None:
        experiment_dir.note_error(folder, reason)
        return
    found |= {'seconds': round(time.time() - begin, 2), 'environment': about | {'hardware': hardware()}}
    write_text(folder / experiment_dir.RESULT, json.dumps(found, indent=1))


def train(spec: dict, folder: Path) -> dict:
    """Runs tools/train.py and reads its last metrics."""
    root, run, checkpoint = Path(spec['where']['root']), folder / 'run', spec['where']['checkpoint']
    # A job has the GPUs that it was given, and no more processes than those.
    world = min(spec['gpus'], len(os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')))
    config = str(root / 'configs' / spec['config'])
    options = dict(spec['options'])
    if not checkpoint:
        options['model.backbone.init_cfg'] = None  # which a config may have
    common = ['--data-root', spec['data_root']]
    if world > 1:
        common += ['--launcher', 'pytorch']
    if options:
        common += ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    before = _curves(run, spec['metrics'])
    _run([str(root / 'tools' / 'train.py')], [
        config, '--work-dir', str(run), '--resume', 'auto', '--seed', str(spec['seed']),
        '--labels', str(spec['labels']),  # 1.0 too: a config may have a share of its own
        *(['--pretrained', checkpoint] if checkpoint else []), *(['--amp'] if spec['amp'] else []), *common], world)
    curves = _curves(run, spec['metrics'])
    if repr(curves) == repr(before):  # it was at its end already; as text, where nan equals nan
        found = _validate(config, run, folder / 'validation', common, world)
    else:
        found = {key: curve[-1][1] for key, curve in curves.items()}
    missing = [key for key in spec['metrics'] if key not in found]
    if missing:
        raise ValueError(f'the training has no {", ".join(missing)}: it has {", ".join(found)}; correct `metrics` of '
                         'the task')
    return {'values': {title: found[key] * spec['scale'] for key, title in spec['metrics'].items()}}


def _curves(run: Path, keys: Iterable[str]) -> dict[str, list[tuple[int, float]]]:
    """What a training has logged up to now."""
    found = {}
    for key in keys:
        with suppress(ValueError):  # nothing yet
            found[key] = curve(run, key)
    return found


def _validate(config: str, run: Path, work: Path, common: Sequence[str], world: int) -> dict:
    """The metrics of the last checkpoint of a training that logged none at its end."""
    _run(['-m', 'mae_backbone.cli.validate_run'], [config, str(run), '--work-dir', str(work), *common], world)
    return json.loads((work / METRICS).read_text(encoding='utf-8'))


def _run(program: Sequence[str], arguments: Sequence[str], world: int) -> None:
    """Runs a script, or '-m' and a module: in this process, or by torchrun in `world` processes.

    Told to stop, it ends with 128 and the signal, as our tools do.
    """
    if world == 1:
        sys.argv = [program[-1], *arguments]
        if program[0] == '-m':
            runpy.run_module(program[1], run_name='__main__')
        else:
            runpy.run_path(program[0], run_name='__main__')
        return
    from torch.distributed.elastic.multiprocessing.api import SignalException
    sys.argv = ['torchrun', '--standalone', '--nproc_per_node', str(world), *program, *arguments]
    try:
        runpy.run_module('torch.distributed.run', run_name='__main__', alter_sys=True)
    except SignalException as end:
        sys.exit(128 + end.sigval)


def probe(spec: dict, folder: Path) -> dict:
    """Judges frozen features."""
    from mae_backbone.transfer.probes import run_probe
    return run_probe(spec, folder)


def pictures(spec: dict, folder: Path) -> dict:
    """Draws what the report shows."""
    from mae_backbone.transfer.figures import draw_pictures
    return draw_pictures(spec, folder)


_KINDS = {'train': train, 'probe': probe, 'pictures': pictures}


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """All that this process and its children write goes to the end of the file `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
    path.touch()  # of the logs of a job the youngest one is that of the cell at work
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
