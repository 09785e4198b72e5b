"""Steps of the quickstart: pretraining on generated images, then three tasks from the MAE and from random weights."""
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mae_backbone.quickstart.scene_files import write_scenes
from mae_backbone.quickstart.tasks import INITS, TASKS, TRANSFER, Task
from mae_backbone.utils.atomic_write import write_text
from mae_backbone.utils.config_files import configs_root
from mae_backbone.utils.cpu import available_cpus, threads_per_process
from mae_backbone.utils.run_logs import DONE, ProgressLine, print_line, progress, seconds_of_step, tail
from mae_backbone.utils.subprocesses import child_environment

SCENES = {'unlabeled': 3000, 'train': 400, 'val': 200, 'size': 64}
_SECONDS = 'seconds'  # file in the folder of a step: one line per attempt


class Step(NamedTuple):
    """A command of mae-backbone that runs in a process.

    Attributes:
        name: name of the step.
        arguments: the command and its arguments.
        folder: folder for its output.
        picture: pattern of a file in the folder whose path is printed once the file exists.
    """

    name: str
    arguments: Sequence[str]
    folder: Path
    picture: str = ''

    @property
    def command(self) -> list[str]:
        """Command line of the process."""
        return [sys.executable, '-m', 'mae_backbone', *self.arguments]

    @property
    def log(self) -> Path:
        """File with everything that the process prints."""
        return self.folder / 'output.log'


class StepError(ValueError):
    """A step failed."""


def quickstart(work_dir: Path, *, images: Path | None = None, length: float = 1.0, options: Sequence[str] = (),
               scenes: Mapping[str, int] = SCENES) -> Path:
    """Runs every step that is not finished, writes the report, and returns the page to open.

    Args:
        work_dir: output folder.
        images: folder of images to pretrain on instead of the generated ones.
        length: factor of the iterations of all trainings. Below 1 the steps are the same and the values mean little.
        options: --cfg-options of every step.
        scenes: number and size of the generated images, arguments of `write_scenes`.

    Raises:
        StepError: a step failed. The message has its last lines.
        ValueError: `work_dir` holds the results of a pretraining on other images or of another length, or of another
            command.
    """
    start = time.time()
    _check_source(work_dir, images, length)
    print_line('1. images: generating scenes with exact boxes, masks, segments and classes')
    write_scenes(work_dir / 'scenes', **scenes)
    source = images or work_dir / 'scenes' / 'unlabeled'
    print_line(f'2. pretraining: a masked autoencoder (MAE) on {source}, without labels; the tasks from random weights')
    # The images of a user may not fit into memory.
    mae_options = options if images is None else (*options, 'train_dataloader.dataset.cache=False')

    def training(task: Task, init: str, *more: str) -> Step:
        return _step(f'{task.name}_{init}', 'train', work_dir / 'scenes' / task.folder, work_dir, options, *more,
                     *_iterations(task.name, length))
    run_steps([_step('mae', 'pretrain', source, work_dir, mae_options, *_iterations('mae', length)),
               *(training(task, 'random') for task in TASKS)])
    from mae_backbone.checkpoints.run_files import resume_path  # imports torch, which takes seconds
    checkpoint = str(resume_path('auto', work_dir / 'mae'))
    print_line('3. the tasks from the MAE, and classifiers on frozen features of the MAE and of random weights')
    frozen = Step(TRANSFER, [
        'transfer', 'quick', '--labels', '1.0', '--checkpoint', checkpoint, '--against', 'random',
        '--data-root', str(work_dir / 'scenes' / 'classes'), '--work-dir', str(work_dir / TRANSFER)],
        work_dir / TRANSFER)
    run_steps([*(training(task, 'mae', '--pretrained', checkpoint) for task in TASKS), frozen])
    print_line('4. report')
    from mae_backbone.quickstart.report import write_report  # imports mmdet, which takes seconds
    page = write_report(work_dir, pretrained_on=source, length=length)
    print_line(f'finished after {(time.time() - start) / 60:.1f} minutes')
    return page


def _check_source(work_dir: Path, images: Path | None, length: float) -> None:
    """Records images and length of the pretraining. Raises ValueError if the folder holds results for others."""
    path, source = work_dir / 'pretrained_on', str(images.resolve() if images else 'scenes')
    source = source.encode('utf-8', 'backslashreplace').decode('utf-8')  # for names that are not UTF-8
    source += '' if length == 1 else f' with --length {length:g}'
    before = path.read_text(encoding='utf-8') if path.is_file() else ''
    if before and before != source:
        raise ValueError(f'{work_dir} holds results of a pretraining on {before}: choose another --work-dir, or remove '
                         'that folder')
    foreign = [name for name in _folders() if not before and (work_dir / name).exists()]
    if foreign:
        raise ValueError(f'{work_dir} holds {", ".join(foreign)}, and no quickstart was started there: it would '
                         'continue a run of yours. Choose another --work-dir')
    work_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, source)


def _folders() -> list[str]:
    """Names of the folders of all steps."""
    return ['mae', TRANSFER, *(f'{task.name}_{init}' for task in TASKS for init in INITS)]


def _iterations(name: str, length: float) -> list[str]:
    """Options that shorten the training of a config of the quickstart."""
    if length == 1:
        return []
    from mmengine.config import Config
    iterations = Config.fromfile(configs_root() / 'demo' / f'quickstart_{name}.py').train_cfg.max_iters
    return ['--iters', str(max(1, round(iterations * length)))]


def _step(name: str, command: str, data: Path, work_dir: Path, options: Sequence[str], *more: str) -> Step:
    config = f'mae_backbone::demo/quickstart_{name.split("_")[0]}.py'
    # --amp takes 0.7 of the time of the pretraining on CPUs that multiply matrices in bfloat16; others stay in float32.
    arguments = [command, config, '--data-root', str(data), '--work-dir', str(work_dir / name), '--resume', 'auto',
                 '--amp']
    return Step(name, [*arguments, *more, *(['--cfg-options', *options] if options else [])], work_dir / name,
                picture='reconstructions/*.png' if command == 'pretrain' else '')


def run_steps(steps: Sequence[Step]) -> None:
    """Runs the steps that are not finished: two at a time if there are two CPUs, each with an equal share of the CPUs.

    Models of this size gain little from a second thread. A step is finished if its folder holds a readable file `DONE`,
    with the seconds that all its attempts took.

    Raises:
        StepError: a step failed.
    """
    pending = [step for step in steps if seconds_of_step(step.folder) is None]
    for step in steps:
        if step not in pending:
            print_line(f'   {step.name}: finished before')
    if pending:
        _run(pending)


class _Running(NamedTuple):
    step: Step
    process: 'subprocess.Popen[bytes]'
    start: float  # seconds since the epoch


def _run(steps: Sequence[Step]) -> None:
    """Runs steps in their order. If a step fails, the steps that still run are terminated."""
    slots = max(1, min(2, available_cpus(), len(steps)))
    waiting, running = list(steps), list[_Running]()
    progress_line, shown = ProgressLine(), set[str]()
    try:
        while waiting or running:
            while waiting and len(running) < slots:
                running.append(_start(waiting.pop(0), threads_per_process(slots)))
            time.sleep(0.3)
            for step, _, _ in running:
                picture = next(step.folder.glob(step.picture), None) if step.picture else None
                if picture is not None and step.name not in shown:
                    shown.add(step.name)
                    print_line(f'   first picture: {picture}')
            ended = [one for one in running if one.process.poll() is not None]
            for one in sorted(ended, key=lambda one: bool(one.process.returncode)):  # failed ones raise: last
                running.remove(one)
                _finish(one)
            progress_line.show(partial(_progress, running))
    finally:
        for one in running:
            one.process.terminate()
            one.process.wait()
            _add_seconds(one)


def _progress(running: Sequence[_Running]) -> str:
    return '   ' + '; '.join(f'{one.step.name}: {progress(tail(one.step.log))}' for one in running)


def _start(step: Step, threads: int) -> _Running:
    step.folder.mkdir(parents=True, exist_ok=True)
    with open(step.log, 'ab') as log:
        process = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env=child_environment() | {'OMP_NUM_THREADS': str(threads)})
    return _Running(step, process, time.time())


def _finish(ended: _Running) -> None:
    """Marks a step whose process has ended as finished. Raises StepError if it failed."""
    step = ended.step
    _add_seconds(ended)
    if ended.process.returncode:
        last_lines = '\n'.join('   ' + line for line in tail(step.log).splitlines()[-12:])
        raise StepError(f'the step {step.name} failed. The last lines of {step.log}:\n{last_lines}\n'
                        'Correct the cause and run the same command again: finished steps are not repeated.')
    seconds = _total((step.folder / _SECONDS).read_text(encoding='utf-8', errors='replace'))
    write_text(step.folder / DONE, f'{seconds:.1f}\n')
    print_line(f'   {step.name}: {seconds / 60:.1f} minutes')


def _add_seconds(one: _Running) -> None:
    """Records the time of an attempt."""
    with open(one.step.folder / _SECONDS, 'a', encoding='utf-8') as file:
        file.write(f'\n{time.time() - one.start:.1f}\n')  # the line before it may be incomplete


def _total(text: str) -> float:
    """Sums the numbers of a text. A line that a killed process did not complete is left out."""
    return sum(float(word) for word in text.split() if re.fullmatch(r'\d+\.\d', word))
