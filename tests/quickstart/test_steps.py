"""The steps of the quickstart: each runs once, goes on after an interruption, and says what went wrong."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mae_backbone.quickstart.report import TASKS
from mae_backbone.quickstart.steps import Step, StepError, _keep_source, quickstart, run_together
from mae_backbone.utils.run_logs import DONE, curve

ROOT = Path(__file__).parents[2]


def step(folder: Path, code: str) -> Step:
    return Step(folder.name, [sys.executable, '-c', code], folder)


def test_a_finished_step_is_not_repeated(tmp_path, capsys):
    steps = [step(tmp_path / name, f'open(r"{tmp_path / "ran"}", "a").write("{name} ")') for name in 'ab']
    run_together(steps)
    run_together(steps)
    assert sorted((tmp_path / 'ran').read_text().split()) == ['a', 'b']
    assert 'finished before' in capsys.readouterr().out
    assert float((tmp_path / 'a' / DONE).read_text()) > 0


def test_a_failing_step_shows_its_last_lines_and_may_be_repeated(tmp_path):
    mended = tmp_path / 'mended'
    code = f'import os, sys; print("the reason"); sys.exit(0 if os.path.exists(r"{mended}") else 2)'
    with pytest.raises(StepError, match=r'the step a failed(.|\n)*the reason(.|\n)*run the same command again'):
        run_together([step(tmp_path / 'a', code)])
    assert not (tmp_path / 'a' / DONE).exists()
    first = float((tmp_path / 'a' / 'seconds').read_text())
    mended.touch()
    run_together([step(tmp_path / 'a', code)])
    assert float((tmp_path / 'a' / DONE).read_text()) > first, 'the time of all attempts counts'


def test_the_other_of_a_pair_is_stopped_when_one_fails(tmp_path):
    slow = step(tmp_path / 'slow', 'import time; time.sleep(60)')
    with pytest.raises(StepError, match='the step bad failed'):
        run_together([step(tmp_path / 'bad', 'raise SystemExit(2)'), slow])
    assert not (slow.folder / DONE).exists()
    assert float((slow.folder / 'seconds').read_text()) < 30


def test_results_of_other_images_are_not_mixed(tmp_path):
    _keep_source(tmp_path, None)
    _keep_source(tmp_path, None)
    with pytest.raises(ValueError, match='choose another --work-dir'):
        _keep_source(tmp_path, tmp_path / 'mine')


@pytest.mark.slow
def test_the_whole_quickstart_on_a_handful_of_scenes(tmp_path):
    options = ('train_cfg.max_iters=2', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1',
               'default_hooks.checkpoint.interval=1', 'train_dataloader.batch_size=4')
    page = quickstart(tmp_path / 'q', root=ROOT, options=options,
                      scenes={'unlabeled': 8, 'train': 16, 'val': 16, 'size': 64})
    names = {file.name for file in page.parent.iterdir()}
    assert {'index.html', 'report.md', 'results.json', 'curves.png', 'detection.png', 'segmentation.png',
            'classification.png'} <= names
    assert not list(page.parent.rglob('*.part'))
    rows = json.loads((page.parent / 'results.json').read_text())
    assert {(row['task'], row['metric']) for row in rows} == {
        ('frozen features, knn', 'top-1'), ('frozen features, linear', 'top-1'), ('detection', 'box AP'),
        ('detection', 'mask AP'), ('segmentation', 'mIoU'), ('classification', 'top-1')}
    for task in TASKS:  # iterations, not the epoch 0 of them all
        assert [step for step, _ in curve(tmp_path / 'q' / f'{task.name}_mae', next(iter(task.metrics)))] == [1, 2]
    assert all(0 <= row['value'] <= 100 and row['minutes'] > 0 for row in rows), rows


@pytest.mark.skipif(os.name == 'nt', reason='Windows ends a process without a word')
def test_a_terminated_quickstart_leaves_no_step_behind(tmp_path):
    code = f'''
from mae_backbone import cli
from mae_backbone.quickstart.steps import Step, run_together
from pathlib import Path
import sys
child = 'import os, time; open("pid.part", "w").write(str(os.getpid())); os.rename("pid.part", "pid"); time.sleep(60)'
cli.tool(lambda: run_together([Step('a', [sys.executable, '-c', child], Path({str(tmp_path / 'a')!r}))]))
'''
    parent = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    pid = tmp_path / 'pid'
    while not pid.exists():
        assert parent.poll() is None, parent.stderr.read()
        time.sleep(0.1)
    parent.terminate()
    assert 'what was written stays' in parent.communicate(timeout=30)[1]
    assert parent.returncode == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
