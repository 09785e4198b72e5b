"""Signals that stop a run, in the main process and in its data loading workers."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mae_backbone.engine.signals import STOP_SIGNALS

WORKER = '''
import time
from mae_backbone.engine.signals import start_worker
start_worker(lambda worker: print('worker', worker, flush=True), 3)
time.sleep(60)
'''


def test_signals_of_schedulers_and_the_keyboard_are_handled():
    assert set(STOP_SIGNALS) == {signal.SIGTERM, signal.SIGUSR1, signal.SIGINT}


def test_worker_survives_all_signals_but_the_second_sigterm():
    process = subprocess.Popen([sys.executable, '-c', WORKER], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])})
    assert process.stdout.readline() == 'worker 3\n'
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM
    process.stdout.close()
