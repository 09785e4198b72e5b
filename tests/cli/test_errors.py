"""Errors become one message and an exit code."""
import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mae_backbone.checkpoints.run_files import DiskFullError
from mae_backbone.cli import errors
from mae_backbone.data.decode import BadImageError
from mae_backbone.hooks.nonfinite_guard import NonFiniteError
from mae_backbone.hooks.preemption import Interrupted


def run(error: Exception) -> int:
    def main() -> None:
        raise error
    return errors.run_cli(main, resume_hint='the same command with --resume continues')


def test_names_that_the_encoding_of_the_terminal_lacks_are_escaped(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(written, encoding='ascii'))
    assert errors.run_cli(lambda: errors.log_rank0('größe')) == 0
    assert written.getvalue() == rb'gr\xf6\xdfe' + os.linesep.encode()


@pytest.mark.parametrize('error', [
    ValueError('came this, wanted that'), FileNotFoundError('no such thing'), PermissionError(13, 'denied', '/x'),
    OSError(errno.ENOSPC, 'No space left on device'), KeyError('X is not in the mmdet::model registry'),
    TypeError("class `A`: __init__() got an unexpected keyword argument 'b'"),
    RuntimeError('DataLoader worker (pid(s) 1) exited unexpectedly'),
])
def test_mistake_of_a_user_is_one_message_and_exit_code_2(error, capsys):
    assert run(error) == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ')
    assert 'Traceback' not in said


@pytest.mark.parametrize(('text', 'cause'), [
    ('exited unexpectedly', 'memory ran out'), ('is killed by signal: Killed. ', 'memory ran out'),
    ('is killed by signal: Terminated. ', 'ended from outside'),
    ('is killed by signal: Bus error. It is possible that', 'shared memory')])
def test_lost_worker_is_explained_by_its_signal(text, cause):
    assert cause in errors.explain(RuntimeError(f'DataLoader worker (pid 31792) {text}'))


def test_defect_keeps_its_traceback(capsys):
    assert run(ZeroDivisionError('ours')) == 1
    said = capsys.readouterr().err
    assert 'Traceback' in said
    assert 'report' in said


def test_traceback_of_a_mistake_is_printed_on_request(monkeypatch, capsys):
    monkeypatch.setenv('MAE_BACKBONE_TRACEBACK', '1')
    assert run(ValueError('mistake')) == 2
    assert 'Traceback' in capsys.readouterr().err


def test_interrupt_says_how_to_continue(capsys):
    assert run(KeyboardInterrupt()) == 130
    assert '--resume' in capsys.readouterr().err


def test_preempted_run_ends_with_the_code_of_its_signal():
    def main() -> None:
        raise Interrupted(signal.SIGUSR1)
    assert errors.run_cli(main) == 128 + signal.SIGUSR1


def test_lost_process_is_one_line(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    said = errors.explain(RuntimeError('[../gloo/transport/tcp/pair.cc:1] Connection closed by peer [::1]:5\nmore'))
    assert said.startswith('process 1: another process of this run has ended')
    assert '\n' not in said


@pytest.mark.parametrize(('rank', 'says'), [('0', True), ('1', False)])
def test_error_of_all_processes_is_printed_once(monkeypatch, capsys, rank, says):
    monkeypatch.setenv('RANK', rank)
    assert run(NonFiniteError('the training does not recover')) == 2
    assert ('does not recover' in capsys.readouterr().err) == says


def test_full_disk_says_how_much_a_checkpoint_needs():
    assert errors.explain(DiskFullError(errno.ENOSPC, 'it needs 3 MB')) == 'it needs 3 MB'


def test_full_disk_is_recognized_in_every_wording():
    assert 'disk is full' in errors.explain(OSError(errno.ENOSPC, 'x'))
    worker = ('Caught BadImageError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
              "  File x\n    raise BadImageError(f'{bad}')\n"
              'mae_backbone.data.decode.BadImageError: 3 of 12: see\n  a.jpg\nRemove them')
    assert errors.explain(BadImageError(worker)) == '3 of 12: see\n  a.jpg\nRemove them'
    assert 'disk is full' in errors.explain(RuntimeError('write failed: No space left on device'))
    assert 'quota of this user is full' in errors.explain(RuntimeError('IoError: Disk quota exceeded (os error 122)'))


@pytest.mark.parametrize(('number', 'reason'), [(errno.EDQUOT, 'the disk quota of this user is full'),
                                                (errno.EFBIG, 'the disk is full for a file of this size')])
def test_full_quota_and_limit_of_the_size_of_a_file_say_what_to_do(number: int, reason: str):
    said = errors.explain(OSError(number, os.strerror(number), '/home/me/.cache/a'))
    assert said.startswith(reason)
    assert '(/home/me/.cache/a): free some space or choose another folder' in said
    copying = OSError(number, os.strerror(number), 'source', None, 'target')
    assert '(target): ' in errors.explain(copying)


@pytest.mark.parametrize(('path', 'number', 'advice'), [
    ('plan.py', errno.EROFS, 'choose another folder'), ('plan.py', errno.EACCES, 'check the path and its permissions'),
    ('cache/scan.json', errno.EROFS, 'set the environment variable MAE_BACKBONE_CACHE to another folder than cache'),
    ('cache', errno.EACCES, 'set the environment variable MAE_BACKBONE_CACHE to another folder than cache')])
def test_a_file_that_cannot_be_written_is_named_with_a_way_out(path: str, number: int, advice: str, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', 'cache')
    assert errors.explain(OSError(number, os.strerror(number), path)) == f'{path}: {os.strerror(number)}: {advice}'


def test_out_of_memory_is_not_a_defect():
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 50)
    assert 'too little memory: lower the batch size' in errors.explain(error.value)
    assert 'you tried to allocate 4503599627370496 bytes' in errors.explain(error.value)


def test_missing_package_of_the_config_is_not_a_defect():
    message = errors.explain(ImportError('Please run "pip install wandb" to install wandb'))
    assert 'not installed' in message
    assert 'pip install wandb' in message


def test_interrupt_that_an_import_turns_into_another_error_is_an_interrupt(capsys):
    def main() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:  # as numpy does
            raise ImportError('numpy._core.multiarray failed to import') from error
    assert errors.run_cli(main) == 130
    assert 'Traceback' not in capsys.readouterr().err
    assert run(ZeroDivisionError('ours')) == 1, 'only the interrupted run'


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1])
def test_termination_that_a_library_turns_into_another_error_is_a_termination(number: signal.Signals, capsys):
    def main() -> None:
        try:
            signal.raise_signal(number)
        except:  # noqa: E722, as MMEngine does while it formats a config
            raise SyntaxError('Failed to format the config file') from None
    assert errors.run_cli(main) == 128 + number
    printed = capsys.readouterr().err
    assert f'{number.name}: terminated' in printed
    assert 'error' not in printed
    assert run(ZeroDivisionError('ours')) == 1, 'only the terminated run'


@pytest.mark.slow
@pytest.mark.parametrize('seconds', [0.2, 1.0, 3.0])
def test_interrupt_during_the_imports_ends_with_130_and_no_traceback(seconds: float, tmp_path):
    code = """
import sys
from mae_backbone.cli.main import console
sys.argv = ['mae-backbone', 'train', 'mask-rcnn_vit-micro_nuclei']
print('started', flush=True)
console()
"""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, '-c', code], cwd=tmp_path, env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == 'started\n'
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    if process.returncode != 2:  # on a fast machine it has ended: there are no data
        assert (process.returncode, 'Traceback' in printed) == (130, False), printed


def test_interrupt_in_a_callback_ends_with_130_and_no_traceback():
    """Python prints an exception that is raised in a callback, and drops it."""
    code = """
import weakref
from mae_backbone.cli.errors import exit_process, run_cli

class Thing:
    pass

def interrupt(_):
    raise KeyboardInterrupt

def command():
    thing = Thing()
    reference = weakref.ref(thing, interrupt)
    del thing
    print('continued')

exit_process(run_cli(command))
"""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, 'Traceback' in done.stderr) == (130, '', False), done.stderr
    assert 'interrupted: files that were written are kept' in done.stderr


def test_a_reader_of_stdout_that_ends_is_no_error():
    """As in `mae-backbone plan DIR | head -1`."""
    code = """
from mae_backbone.cli.errors import exit_process, run_cli
exit_process(run_cli(lambda: [print('line', flush=number % 10 == 0) for number in range(100_000)]))
"""
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, '-c', code], env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == 'line\n'
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (141, '')


@pytest.mark.skipif(os.name == 'nt', reason='shells of Windows do not close streams')
def test_closed_streams_are_no_error():
    command = f'{sys.executable} -c "from mae_backbone.cli.errors import *; exit_process(run_cli(lambda: print(1)))"'
    environment = {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
    for closed in ('>&-', '2>&-', '>&- 2>&-', '<&- >&- 2>&-'):
        assert subprocess.run(['sh', '-c', f'{command} {closed}'], env=environment, check=False).returncode == 0, closed


def test_a_deleted_folder_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / 'folder'
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert errors.run_cli(lambda: None) == 2
    assert 'the current folder was deleted' in capsys.readouterr().err
