"""Steps of the quickstart: each runs once, continues after an interruption, and reports its failure."""
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.in_process import InProcessExecutor, forget_runs
from mmengine.config import Config

from mae_backbone.cli.main import main
from mae_backbone.quickstart import steps
from mae_backbone.quickstart.steps import Step, StepError, quickstart, run_steps
from mae_backbone.quickstart.tasks import TASKS
from mae_backbone.transfer import run
from mae_backbone.utils.config_files import configs_root
from mae_backbone.utils.run_logs import DONE, curve


@pytest.fixture(autouse=True)
def _steps_run_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments of a step are a few lines of Python in these tests."""
    monkeypatch.setattr(Step, 'command', property(lambda step: [sys.executable, '-c', *step.arguments]))


def step(folder: Path, code: str) -> Step:
    return Step(folder.name, [code], folder)


def test_a_finished_step_is_not_repeated(tmp_path, capsys):
    pair = [step(tmp_path / name, f'open(r"{tmp_path / "ran"}", "a").write("{name} ")') for name in 'ab']
    run_steps(pair)
    run_steps(pair)
    assert sorted((tmp_path / 'ran').read_text().split()) == ['a', 'b']
    assert 'finished before' in capsys.readouterr().out
    assert float((tmp_path / 'a' / DONE).read_text()) > 0


@pytest.mark.parametrize('content', ['', 'x', '\0\0'])
def test_a_step_with_a_broken_mark_runs_again(tmp_path, content: str):
    counted = step(tmp_path / 'a', f'open(r"{tmp_path / "ran"}", "a").write("a")')
    run_steps([counted])
    (tmp_path / 'a' / DONE).write_text(content)
    with open(tmp_path / 'a' / 'seconds', 'a') as file:
        file.write('12')  # not completed
    run_steps([counted])
    assert (tmp_path / 'ran').read_text() == 'aa'
    assert 0 < float((tmp_path / 'a' / DONE).read_text()) < 12


def test_a_failed_step_shows_its_last_lines_and_can_be_repeated(tmp_path):
    corrected = tmp_path / 'corrected'
    code = f'import os, sys; print("the reason"); sys.exit(0 if os.path.exists(r"{corrected}") else 2)'
    with pytest.raises(StepError, match=r'the step a failed(.|\n)*the reason(.|\n)*run the same command again'):
        run_steps([step(tmp_path / 'a', code)])
    assert not (tmp_path / 'a' / DONE).exists()
    first = float((tmp_path / 'a' / 'seconds').read_text())
    corrected.touch()
    run_steps([step(tmp_path / 'a', code)])
    assert float((tmp_path / 'a' / DONE).read_text()) > first, 'all attempts count'


def test_if_a_step_fails_the_others_are_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, 'available_cpus', lambda: 2)
    slow = step(tmp_path / 'slow', 'import time; time.sleep(60)')
    with pytest.raises(StepError, match='the step bad failed'):
        run_steps([step(tmp_path / 'bad', 'raise SystemExit(2)'), slow, step(tmp_path / 'third', '')])
    assert not (slow.folder / DONE).exists()
    assert float((slow.folder / 'seconds').read_text()) < 30
    assert not (tmp_path / 'third').exists()


@pytest.mark.parametrize('cpus', [1, 2])
def test_as_many_steps_run_at_a_time_as_there_are_cpus_but_two_at_most(tmp_path, monkeypatch, cpus: int):
    monkeypatch.setattr(steps, 'available_cpus', lambda: cpus)
    log = tmp_path / 'log'
    code = f'import time; open(r"{log}", "a").write("+"); time.sleep(0.5); open(r"{log}", "a").write("-")'
    run_steps([step(tmp_path / str(number), code) for number in range(3)])
    events, running = log.read_text(), [0]
    for event in events:
        running.append(running[-1] + (1 if event == '+' else -1))
    assert (len(events), max(running)) == (6, cpus)
    assert all((tmp_path / str(number) / DONE).exists() for number in range(3))


def test_results_for_other_images_are_refused(tmp_path):
    steps._check_source(tmp_path, None, 1.0)
    steps._check_source(tmp_path, None, 1.0)
    with pytest.raises(ValueError, match='choose another --work-dir'):
        steps._check_source(tmp_path, tmp_path / 'mine', 1.0)
    with pytest.raises(ValueError, match='choose another --work-dir'):
        steps._check_source(tmp_path, None, 0.05)


def test_a_shorter_quickstart_multiplies_the_iterations_of_every_training():
    assert steps._iterations('mae', 1.0) == []
    iterations = Config.fromfile(configs_root() / 'demo' / 'quickstart_mae.py').train_cfg.max_iters
    assert steps._iterations('mae', 0.05) == ['--iters', str(round(iterations / 20))]
    assert steps._iterations('classification', 1e-9) == ['--iters', '1']


def test_the_first_picture_is_named_while_its_step_runs(tmp_path, capsys):
    code = (f'import pathlib, time; folder = pathlib.Path(r"{tmp_path}", "a", "pictures"); folder.mkdir(); '
            '(folder / "iter_1.png").touch(); time.sleep(0.7); (folder / "iter_2.png").touch(); time.sleep(0.7)')
    run_steps([step(tmp_path / 'a', code)._replace(picture='pictures/*.png')])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if 'picture' in line] == [
        f'   first picture: {tmp_path / "a" / "pictures" / "iter_1.png"}']


@pytest.mark.slow
@pytest.mark.filterwarnings('default')  # as in processes of their own, where warnings are not errors
def test_the_whole_quickstart_on_a_few_scenes(tmp_path, monkeypatch):
    """All commands run in this process, one after the other."""
    def run_in_process(steps: Sequence[Step]) -> None:
        for one_step in steps:
            forget_runs()
            assert main(list(one_step.arguments)) == 0, one_step.name
            (one_step.folder / DONE).write_text('1.0')
    monkeypatch.setattr(steps, '_run', run_in_process)
    monkeypatch.setattr(run, 'select_executor', lambda *_: InProcessExecutor())
    options = ('train_cfg.max_iters=2', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1',
               'default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=4',
               'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False')
    page = quickstart(tmp_path / 'q', options=options, scenes={'unlabeled': 8, 'train': 16, 'val': 16, 'size': 64})
    names = {file.name for file in page.parent.iterdir()}
    assert {'index.html', 'report.md', 'results.json', 'curves.png', 'detection.png', 'segmentation.png',
            'classification.png'} <= names
    assert not list(page.parent.rglob('*.part'))
    rows = json.loads((page.parent / 'results.json').read_text())
    assert {(row['task'], row['metric']) for row in rows} == {
        ('frozen features, knn', 'top-1'), ('frozen features, knn whitened', 'top-1'),
        ('frozen features, linear', 'top-1'), ('detection', 'box AP'),
        ('detection', 'mask AP'), ('segmentation', 'mIoU'), ('classification', 'top-1')}
    for task in TASKS:  # values by iteration, not by epoch
        assert [step for step, _ in curve(tmp_path / 'q' / f'{task.name}_mae', next(iter(task.metrics)))] == [1, 2]
    assert all(0 <= row['value'] <= 100 and row['minutes'] > 0 for row in rows), rows


def test_a_step_runs_a_command_of_the_package(tmp_path, monkeypatch):
    monkeypatch.undo()
    command = steps._step('mae', 'pretrain', tmp_path, tmp_path, ('a=1',)).command
    assert command[:5] == [sys.executable, '-m', 'mae_backbone', 'pretrain', 'mae_backbone::demo/quickstart_mae.py']
    assert command[-2:] == ['--cfg-options', 'a=1']


@pytest.mark.skipif(os.name == 'nt', reason='Windows ends a process without a signal')
def test_a_terminated_quickstart_leaves_no_process_behind(tmp_path):
    child = 'import os, time; open("new", "w").write(str(os.getpid())); os.rename("new", "pid"); time.sleep(60)'
    code = f'''
import sys
from pathlib import Path
from mae_backbone.cli.errors import exit_process, run_cli
from mae_backbone.quickstart.steps import Step, run_steps
Step.command = property(lambda step: [sys.executable, '-c', {child!r}])
exit_process(run_cli(lambda: run_steps([Step('a', [], Path({str(tmp_path / 'a')!r}))])))
'''
    parent = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / 'pid'
    while not pid.exists():
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.1)
    parent.terminate()
    assert 'files that were written are kept' in parent.communicate(timeout=30)[1]
    assert parent.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_run_of_the_user_in_the_folder_is_not_continued(tmp_path: Path):
    (tmp_path / 'mae').mkdir()
    with pytest.raises(ValueError, match='holds mae, and no quickstart was started there'):
        steps._check_source(tmp_path, None, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ['mae']


def test_the_folder_of_the_images_may_have_a_name_that_is_not_utf_8(tmp_path: Path):
    images = tmp_path / 'images\udcff'
    steps._check_source(tmp_path / 'run', images, 1.0)
    steps._check_source(tmp_path / 'run', images, 1.0)
    with pytest.raises(ValueError, match='holds results of a pretraining on'):
        steps._check_source(tmp_path / 'run', None, 1.0)
