"""The whole path in minutes: pretrain on generated scenes, then three tasks from the MAE and from random weights."""
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mae_backbone.quickstart.report import TASKS, TRANSFER, write_report
from mae_backbone.quickstart.scene_files import write_scenes
from mae_backbone.utils.cpu import available_cpus, threads_per_process
from mae_backbone.utils.run_logs import DONE, progress, tail
from mae_backbone.utils.subprocesses import child_environment

SCENES = {'unlabeled': 3000, 'train': 400, 'val': 200, 'size': 64}


class Step(NamedTuple):
    """A tool to run to its end, in a folder of its own."""

    name: str
    command: Sequence[str]
    folder: Path


class StepError(ValueError):
    """A step that ended in an error."""


def quickstart(work_dir: Path, *, root: Path, images: Path | None = None, options: Sequence[str] = (),
               scenes: dict[str, int] = SCENES) -> Path:
    """Runs every step that is not finished yet, and writes the report; returns the page to open.

    Args:
        work_dir: for everything that is written.
        root: the folder of `tools` and `configs`.
        images: pretrain on this folder instead of the generated scenes.
        options: for --cfg-options of every step.
        scenes: how many scenes are generated, and how large.

    Raises:
        StepError: a step failed; the message has its last lines.
        ValueError: `work_dir` holds results of other images.
    """
    begin = time.time()
    _keep_source(work_dir, images)
    say('1. scenes: generated, with exact boxes, masks, segments and classes')
    write_scenes(work_dir / 'scenes', **scenes)
    source = images or work_dir / 'scenes' / 'unlabeled'
    say(f'2. pretraining: a MAE on {source}')
    # The images of a user may not fit into memory.
    kept = options if images is None else (*options, 'train_dataloader.dataset.cache=False')
    run_together([_step('mae', 'pretrain', source, work_dir, root, kept)])
    checkpoint = (work_dir / 'mae' / 'last_checkpoint').read_text(encoding='utf-8').strip()
    say('3. frozen features: of the MAE and of random weights, nothing but a classifier trained on them')
    run_together([Step(TRANSFER, [
        sys.executable, str(root / 'tools' / 'transfer.py'), 'quick', '--labels', '1.0', '--checkpoint', checkpoint,
        '--against', 'random', '--data-root', str(work_dir / 'scenes' / 'classes'), '--work-dir',
        str(work_dir / TRANSFER)], work_dir / TRANSFER)])
    for number, task in enumerate(TASKS, 4):
        say(f'{number}. {task.name}: from the MAE and from random weights, side by side')
        data = work_dir / 'scenes' / task.folder
        run_together([
            _step(f'{task.name}_mae', 'train', data, work_dir, root, options, '--pretrained', checkpoint),
            _step(f'{task.name}_random', 'train', data, work_dir, root, options)])
    say(f'{len(TASKS) + 4}. report')
    page = write_report(work_dir, configs=root / 'configs' / 'demo', pretrained_on=source)
    say(f'done, {(time.time() - begin) / 60:.1f} minutes in this run')
    return page


def _keep_source(work_dir: Path, images: Path | None) -> None:
    """Notes what is pretrained on; raises ValueError where the folder was begun with something else."""
    note, source = work_dir / 'pretrained_on', str(images.resolve() if images else 'scenes')
    if note.is_file() and note.read_text(encoding='utf-8') != source:
        raise ValueError(f'{work_dir} holds results of a pretraining on {note.read_text(encoding="utf-8")}: choose '
                         'another --work-dir, or remove that folder')
    work_dir.mkdir(parents=True, exist_ok=True)
    note.write_text(source, encoding='utf-8')


def _step(name: str, tool: str, data: Path, work_dir: Path, root: Path, options: Sequence[str], *more: str) -> Step:
    config = root / 'configs' / 'demo' / f'quickstart_{name.split("_")[0]}.py'
    folder = work_dir / name
    command = [sys.executable, str(root / 'tools' / f'{tool}.py'), str(config), '--data-root', str(data),
               '--work-dir', str(folder), '--resume', 'auto', *more]
    return Step(name, [*command, *(['--cfg-options', *options] if options else [])], folder)


def run_together(steps: Sequence[Step]) -> None:
    """Runs the unfinished ones of `steps` at the same time, with an equal share of the processors each.

    A step is finished when its folder holds the file `DONE`, with the seconds of all attempts in it.

    Raises:
        StepError: one of them failed.
    """
    waiting = [step for step in steps if not (step.folder / DONE).exists()]
    for step in steps:
        if step not in waiting:
            say(f'   {step.name}: finished before')
    # Two processes that share one processor only get in each other's way.
    together = len(waiting) if available_cpus() >= len(waiting) else 1
    for first in range(0, len(waiting), max(1, together)):
        _run(waiting[first:first + together])


def _run(steps: Sequence[Step]) -> None:
    threads = str(threads_per_process(len(steps)))
    begin, running, ended = time.time(), {}, {}
    try:
        for step in steps:
            step.folder.mkdir(parents=True, exist_ok=True)
            with open(_log(step), 'ab') as log:
                running[step.name] = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                      env=child_environment() | {'OMP_NUM_THREADS': threads})
        ended = _watch(steps, running)
    finally:
        for step in steps:
            child = running.get(step.name)
            if child is not None and child.poll() is None:
                child.terminate()
                child.wait()
            with open(step.folder / 'seconds', 'a', encoding='utf-8') as file:
                file.write(f'{ended.get(step.name, time.time()) - begin:.1f}\n')
    for step in steps:
        if running[step.name].returncode == 0:
            spent = sum(map(float, (step.folder / 'seconds').read_text(encoding='utf-8').split()))
            (step.folder / DONE).write_text(f'{spent:.1f}\n', encoding='utf-8')
            say(f'   {step.name}: {spent / 60:.1f} minutes')
    for step in steps:
        if running[step.name].returncode:
            last = '\n'.join('   ' + line for line in tail(_log(step)).splitlines()[-12:])
            raise StepError(f'the step {step.name} failed; the end of {_log(step)}:\n{last}\n'
                            'Mend that and run the same command again: finished steps are not repeated.')


def _watch(steps: Sequence[Step], running: dict[str, subprocess.Popen]) -> dict[str, float]:
    """Waits until all ended or one failed, showing how far they are: in place on a terminal, else every 30 s.

    Returns when each ended, in seconds since the epoch.
    """
    live, shown, ended = sys.stdout.isatty(), time.time(), {}
    while len(ended) < len(running) and not any(child.returncode for child in running.values()):
        time.sleep(0.3)
        for name, child in running.items():
            if child.poll() is not None:
                ended.setdefault(name, time.time())
        if time.time() - shown >= (1 if live else 30):
            shown = time.time()
            line = '   ' + '; '.join(f'{step.name}: {progress(tail(_log(step)))}' for step in steps)
            print(f'\r{line[:110]:<110}' if live else line, end='' if live else '\n', flush=True)
    if live:
        print('\r' + ' ' * 110 + '\r', end='')
    return ended


def say(line: str) -> None:
    print(line, flush=True)


def _log(step: Step) -> Path:
    return step.folder / 'output.log'
