"""The child of a killed process ends, the child of a running process does not."""
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from mae_backbone.utils.subprocesses import child_environment, end_with_parent

CHILD = '''
import time
from mae_backbone.utils.subprocesses import end_with_parent
end_with_parent(0.05)
print('ready', flush=True)
time.sleep(60)
'''
PARENT = f'''
import subprocess, sys
from mae_backbone.utils.subprocesses import child_environment
child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], env=child_environment(), stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
'''
pytestmark = pytest.mark.skipif(os.name == 'nt', reason='Windows does not report the end of a parent')


def is_running(pid: int) -> bool:
    """False for zombies, too."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_child_of_a_killed_process_ends():
    with subprocess.Popen([sys.executable, '-c', PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        assert is_running(child), 'its parent is running'
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 20
    while is_running(child) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(child)


def test_grandchild_is_not_affected(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('MAE_BACKBONE_PARENT', str(os.getppid()))
    end_with_parent(60)
    assert 'MAE_BACKBONE_PARENT' not in os.environ
    assert child_environment()['MAE_BACKBONE_PARENT'] == str(os.getpid())
