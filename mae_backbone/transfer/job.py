"""Works through cells in a process of its own: `python -m mae_backbone.transfer.job FOLDER ...`."""
import json
import os
import runpy
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mae_backbone.reports.children import curve
from mae_backbone.reports.parent import end_with_parent
from mae_backbone.transfer import claims
from mae_backbone.whole_file import write_text


def work(folders: Sequence[str]) -> None:
    """Runs the cells one after the other, but for those that are done or that another process has."""
    for folder in map(Path, folders):
        try:
            with claims.claim(folder):
                if claims.result_of(folder) is None:
                    run_cell(folder)
        except claims.Taken as taken:
            print(taken, flush=True)


def run_cell(folder: Path) -> None:
    """Runs a cell whose claim this process has: its outcome is a `result.json` or an `error.txt`."""
    spec = claims.read_spec(folder)
    (folder / claims.ERROR).unlink(missing_ok=True)
    begin, reason = time.time(), None
    with output_to(folder / claims.LOG):
        try:
            found = _KINDS[spec['kind']](spec, folder)
        except SystemExit as end:
            if end.code in (130, *range(128, 160)):  # told to stop: not the cell's fault
                raise
            reason = f'ended with exit code {end.code}'
        except Exception as error:
            traceback.print_exc()
            reason = claims.reason_of(error)
    if reason is not None:
        claims.note_error(folder, reason)
        return
    write_text(folder / claims.RESULT, json.dumps(found | {'seconds': round(time.time() - begin, 2)}, indent=1))


def train(spec: dict, folder: Path) -> dict:
    """Runs tools/train.py in this process and reads its last metrics."""
    root, run, checkpoint = Path(spec['where']['root']), folder / 'run', spec['where']['checkpoint']
    tool = str(root / 'tools' / 'train.py')
    command = [tool, str(root / 'configs' / spec['config']), '--data-root', spec['data_root'],
               '--work-dir', str(run), '--resume', 'auto', '--seed', str(spec['seed']),
               '--labels', str(spec['labels'])]  # 1.0 too: a config may have a share of its own
    options = dict(spec['options'])
    if checkpoint:
        command += ['--pretrained', checkpoint]
    else:
        options['model.backbone.init_cfg'] = None  # which a config may have
    if spec['amp']:
        command.append('--amp')
    # A job has the GPUs that it was given, and no more processes than those.
    world = min(spec['gpus'], len(os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')))
    if world > 1:
        command = ['torchrun', '--standalone', '--nproc_per_node', str(world), *command, '--launcher', 'pytorch']
    if options:
        command += ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]
    sys.argv = command
    if world > 1:
        _torchrun()
    else:
        runpy.run_path(tool, run_name='__main__')
    values = {title: curve(run, key)[-1][1] * spec['scale'] for key, title in spec['metrics'].items()}
    return {'values': values}


def _torchrun() -> None:
    """Runs the command in sys.argv; told to stop, it ends with 128 and the signal, as tools/train.py does."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
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
    from mae_backbone.transfer.pictures import draw_pictures
    return draw_pictures(spec, folder)


_KINDS = {'train': train, 'probe': probe, 'pictures': pictures}


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """All that this process and its children write goes to the end of the file `path`."""
    sys.stdout.flush()
    sys.stderr.flush()
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
