"""Steps of the quickstart: pretraining on generated images, then three tasks from the MAE and from random weights."""
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mae_backbone.quickstart.scene_files import write_scenes
from mae_backbone.quickstart.tasks import TASKS, TRANSFER
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
        ValueError: `work_dir` holds the results of a pretraining on other images or of another length.
    """
    start = time.time()
    _check_source(work_dir, images, length)
    print_line('1. images: generating scenes with exact boxes, masks, segments and classes')
    write_scenes(work_dir / 'scenes', **scenes)
    source = images or work_dir / 'scenes' / 'unlabeled'
    print_line(f'2. pretraining: a masked autoencoder (MAE) on {source}, without labels')
    # The images of a user may not fit into memory.
    mae_options = options if images is None else (*options, 'train_dataloader.dataset.cache=False')
    run_steps([_step('mae', 'pretrain', source, work_dir, mae_options, *_iterations('mae', length))])
    checkpoint = (work_dir / 'mae' / 'last_checkpoint').read_text(encoding='utf-8').strip()
    print_line('3. frozen features: classifiers on the features of the MAE and of random weights')
    run_steps([Step(TRANSFER, [
        'transfer', 'quick', '--labels', '1.0', '--checkpoint', checkpoint, '--against', 'random',
        '--data-root', str(work_dir / 'scenes' / 'classes'), '--work-dir', str(work_dir / TRANSFER)],
        work_dir / TRANSFER)])
    for number, task in enumerate(TASKS, 4):
        print_line(f'{number}. {task.name}: training from the MAE and from random weights')
        data, more = work_dir / 'scenes' / task.folder, _iterations(task.name, length)
        run_steps([_step(f'{task.name}_mae', 'train', data, work_dir, options, *more, '--pretrained', checkpoint),
                   _step(f'{task.name}_random', 'train', data, work_dir, options, *more)])
    print_line(f'{len(TASKS) + 4}. report')
    from mae_backbone.quickstart.report import write_report  # imports mmdet, which takes seconds
    page = write_report(work_dir, pretrained_on=source, length=length)
    print_line(f'finished after {(time.time() - start) / 60:.1f} minutes')
    return page


def _check_source(work_dir: Path, images: Path | None, length: float) -> None:
    """Records images and length of the pretraining. Raises ValueError if the folder holds results for others."""
    path, source = work_dir / 'pretrained_on', str(images.resolve() if images else 'scenes')
    source += '' if length == 1 else f' with --length {length:g}'
    before = path.read_text(encoding='utf-8') if path.is_file() else ''
    if before and before != source:
        raise ValueError(f'{work_dir} holds results of a pretraining on {before}: choose another --work-dir, or remove '
                         'that folder')
    work_dir.mkdir(parents=True, exist_ok=True)
    write_text(path, source)


def _iterations(name: str, length: float) -> list[str]:
    """Options that shorten the training of a config of the quickstart."""
    if length == 1:
        return []
    from mmengine.config import Config
    iterations = Config.fromfile(configs_root() / 'demo' / f'quickstart_{name}.py').train_cfg.max_iters
    return ['--iters', str(max(1, round(iterations * length)))]


def _step(name: str, command: str, data: Path, work_dir: Path, options: Sequence[str], *more: str) -> Step:
    config = f'mae_backbone::demo/quickstart_{name.split("_")[0]}.py'
    arguments = [command, config, '--data-root', str(data), '--work-dir', str(work_dir / name), '--resume', 'auto']
    return Step(name, [*arguments, *more, *(['--cfg-options', *options] if options else [])], work_dir / name,
                picture='reconstructions/*.png' if command == 'pretrain' else '')


def run_steps(steps: Sequence[Step]) -> None:
    """Runs the steps that are not finished at the same time, each with an equal share of the CPUs.

    A step is finished if its folder holds a readable file `DONE`, with the seconds that all its attempts took.

    Raises:
        StepError: a step failed.
    """
    pending = [step for step in steps if seconds_of_step(step.folder) is None]
    for step in steps:
        if step not in pending:
            print_line(f'   {step.name}: finished before')
    # Two processes on one CPU take longer than one after the other.
    batch = max(1, len(pending)) if available_cpus() >= len(pending) else 1
    for first in range(0, len(pending), batch):
        _run(pending[first:first + batch])


def _run(steps: Sequence[Step]) -> None:
    threads = str(threads_per_process(len(steps)))
    start = time.time()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    end_times: dict[str, float] = {}
    try:
        for step in steps:
            step.folder.mkdir(parents=True, exist_ok=True)
            with open(step.log, 'ab') as log:
                processes[step.name] = subprocess.Popen(
                    step.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env=child_environment() | {'OMP_NUM_THREADS': threads})
        end_times = _wait(steps, processes)
    finally:
        for step in steps:
            process = processes.get(step.name)
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait()
            with open(step.folder / _SECONDS, 'a', encoding='utf-8') as file:
                # The line before it may be incomplete.
                file.write(f'\n{end_times.get(step.name, time.time()) - start:.1f}\n')
    for step in steps:
        if processes[step.name].returncode == 0:
            seconds = _total((step.folder / _SECONDS).read_text(encoding='utf-8', errors='replace'))
            write_text(step.folder / DONE, f'{seconds:.1f}\n')
            print_line(f'   {step.name}: {seconds / 60:.1f} minutes')
    for step in steps:
        if processes[step.name].returncode:
            last_lines = '\n'.join('   ' + line for line in tail(step.log).splitlines()[-12:])
            raise StepError(f'the step {step.name} failed. The last lines of {step.log}:\n{last_lines}\n'
                            'Correct the cause and run the same command again: finished steps are not repeated.')


def _total(text: str) -> float:
    """Sums the numbers of a text. A line that a killed process did not complete is left out."""
    return sum(float(word) for word in text.split() if re.fullmatch(r'\d+\.\d', word))


def _wait(steps: Sequence[Step], processes: Mapping[str, 'subprocess.Popen[bytes]']) -> dict[str, float]:
    """Waits until all processes have ended or one has failed. Shows their progress.

    Returns:
        Time at which each ended, in seconds since the epoch.
    """
    progress_line, shown = ProgressLine(), set()
    end_times: dict[str, float] = {}
    while len(end_times) < len(processes) and not any(process.returncode for process in processes.values()):
        time.sleep(0.3)
        for name, process in processes.items():
            if process.poll() is not None:
                end_times.setdefault(name, time.time())
        for step in steps:
            picture = next(step.folder.glob(step.picture), None) if step.picture and step.name not in shown else None
            if picture is not None:
                shown.add(step.name)
                print_line(f'   first picture: {picture}')
        progress_line.show(lambda: '   ' + '; '.join(f'{step.name}: {progress(tail(step.log))}' for step in steps))
    return end_times
