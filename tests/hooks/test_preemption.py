"""A run saves and exits on a signal; resuming it gives the losses of an uninterrupted run."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.commands import forget_instances
from helpers.driven_runs import drive
from helpers.micro_runs import micro_config, write_images
from mmengine.hooks import Hook

from mae_backbone.engine.runner import Runner
from mae_backbone.hooks.preemption import PreemptionHook

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_signals_save_and_resuming_gives_equal_losses(tmp_path: Path):
    answer = drive('stop', tmp_path, signals=[signal.SIGTERM, signal.SIGUSR1, signal.SIGINT], iterations=150,
                   accumulate=2, save_every=1000)
    said = (tmp_path / 'stopped.log').read_text()
    assert answer['codes'] == [128 + signal.SIGTERM, 128 + signal.SIGUSR1, 128 + signal.SIGINT, 0], said[-3000:]
    assert max(answer['seconds']) < 30
    assert answer['losses'][0] == answer['losses'][1]
    for name in ('SIGTERM', 'SIGUSR1', 'SIGINT'):
        assert re.search(rf'{name}: iteration \d+ of 150 saved to .*interrupted.pth; run the same command', said)
    assert said.count('resumed epoch') == 3
    assert 'Traceback' not in said
    assert not (tmp_path / 'stopped' / 'interrupted.pth').exists(), 'a later checkpoint takes its place'


@pytest.mark.slow
def test_hanging_run_exits_within_its_grace(tmp_path: Path):
    code = ('import time, os, signal\nfrom mae_backbone.hooks.preemption import PreemptionHook\n'
            'hook = PreemptionHook(grace=0.3)\nhook.before_train(None)\nprint("ready", flush=True)\ntime.sleep(60)')
    run = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', code], cwd=tmp_path, text=True,
                           env={**os.environ, 'PYTHONPATH': str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout.readline() == 'ready\n'
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=30)[1]
    assert run.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    assert 'did not end within 0.3 s, exiting without saving' in said


def test_a_run_that_fails_gives_the_signals_back(tmp_path: Path):
    """The process may continue, as in a notebook, where Ctrl-C would end it after the grace."""
    class Failing(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            raise ArithmeticError('of the model')

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    forget_instances()
    runner = Runner.from_cfg(micro_config(tmp_path / 'run', write_images(tmp_path / 'images', 8)))
    runner.register_hook(Failing())
    with pytest.raises(ArithmeticError):
        runner.train()
    hook, = (hook for hook in runner.hooks if isinstance(hook, PreemptionHook))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert hook.timer is None
