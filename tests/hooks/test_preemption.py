"""A run saves and exits on a signal; resuming it gives the losses of an uninterrupted run."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.driven_runs import drive

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
