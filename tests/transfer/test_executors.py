"""Executors: jobs on given GPUs, N at a time, with a share of the threads."""
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers.transfer_cells import use_stub, values, write_job, write_stub

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.executors import Job, LocalExecutor, RunningJob, SlurmExecutor
from mae_backbone.transfer.scheduler import run_jobs


def set_command(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Jobs run a few lines of Python."""
    monkeypatch.setattr(Job, 'command', property(lambda job: [sys.executable, '-c', code]))


def wait_for(job: RunningJob) -> None:
    while not job.done():
        time.sleep(0.02)


def test_a_job_gets_its_gpus_and_threads_and_frees_its_slots(tmp_path, monkeypatch):
    monkeypatch.setattr('mae_backbone.transfer.executors.threads_per_process', lambda number: 10 * number)
    set_command(monkeypatch, 'import os; print(os.environ["CUDA_VISIBLE_DEVICES"], os.environ["OMP_NUM_THREADS"])')
    executor = LocalExecutor(['3', 'GPU-5a6b'], tmp_path)
    jobs = Job('a', ()), Job('b', ()), Job('large', (), gpus=8)
    running = [executor.submit(job) for job in jobs[:2]]
    assert not executor.can_start(jobs[2])
    assert not executor.can_start(Job('c', ()))
    for job in running:
        wait_for(job)
    assert executor.can_start(jobs[2])
    large = executor.submit(jobs[2])
    wait_for(large)
    assert large.failure() is None
    printed = [(tmp_path / f'{job.name}.log').read_text().split() for job in jobs]
    assert printed[:2] == [['3', '20'], ['GPU-5a6b', '20']]
    assert sorted(printed[2][0].split(',')) == ['3', 'GPU-5a6b']


def test_a_job_on_cpus_takes_one_slot_and_sees_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    set_command(monkeypatch, 'import os; print(repr(os.environ["CUDA_VISIBLE_DEVICES"]))')
    executor = LocalExecutor(['', ''], tmp_path)
    running = executor.submit(Job('a', (), gpus=8))
    assert executor.can_start(Job('b', (), gpus=8))
    wait_for(running)
    assert (tmp_path / 'a.log').read_text() == "''\n"


@pytest.mark.parametrize(('code', 'reason'), [
    ('import sys; print("last words"); sys.exit(3)', 'the process ended with exit code 3: last words'),
    pytest.param('import os, signal; os.kill(os.getpid(), signal.SIGKILL)',
                 'the process was ended by SIGKILL, which most often means that memory ran out',
                 marks=pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL'))])
def test_the_failure_of_a_process_is_named(tmp_path, monkeypatch, code: str, reason: str):
    set_command(monkeypatch, code)
    running = LocalExecutor([''], tmp_path).submit(Job('a', ()))
    wait_for(running)
    assert running.failure() == reason


@pytest.mark.skipif(os.name == 'nt', reason='Windows ends a process without a signal')
def test_a_canceled_job_has_time_to_save(tmp_path, monkeypatch):
    set_command(monkeypatch, f'''
import signal, sys, time
def save(*_):
    time.sleep(1.5)
    open({str(tmp_path / "saved")!r}, "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, save)
open({str(tmp_path / "ready")!r}, "w").close()
time.sleep(60)''')
    running = LocalExecutor([''], tmp_path).submit(Job('a', ()))
    while not (tmp_path / 'ready').exists():
        time.sleep(0.02)
    running.cancel()
    running.wait()
    assert (tmp_path / 'saved').exists()


@pytest.mark.skipif(os.name == 'nt', reason='Windows does not report that a parent is gone')
def test_jobs_end_when_their_parent_is_killed(tmp_path):
    child = (f'import os, time; from mae_backbone.utils.subprocesses import end_with_parent; end_with_parent(0.05); '
             f'open({str(tmp_path / "new")!r}, "w").write(str(os.getpid())); '
             f'os.rename({str(tmp_path / "new")!r}, {str(tmp_path / "pid")!r}); time.sleep(60)')
    parent = f'''
import sys, time
from pathlib import Path
from mae_backbone.transfer.executors import Job, LocalExecutor
Job.command = property(lambda job: [sys.executable, '-c', {child!r}])
LocalExecutor([''], Path({str(tmp_path)!r})).submit(Job('a', ()))
time.sleep(60)'''
    with subprocess.Popen([sys.executable, '-c', parent]) as process:
        while not (tmp_path / 'pid').exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    pid, until = int((tmp_path / 'pid').read_text()), time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, 'it is still running'
        time.sleep(0.02)


def test_slurm_runs_the_same_jobs(tmp_path, monkeypatch):
    pytest.importorskip('submitit')
    use_stub(monkeypatch, write_stub(tmp_path, 'if seed == 1:\n    sys.exit(3)'))
    job = write_job(tmp_path / 'out', 'a', cells=2)
    failed = run_jobs([job], SlurmExecutor({'cluster': 'local', 'timeout_min': '2'}, tmp_path / 'out' / 'slurm'))
    assert list(failed) == [job.folders[1]]
    assert values(job) == [50.0]
    result = experiment_dir.read_result(job.folders[0])
    assert result is not None
    assert result['values'] == {'top-1': 50.0}


def test_an_unknown_option_of_slurm_is_refused(tmp_path):
    pytest.importorskip('submitit')
    with pytest.raises(ValueError, match='--slurm: '):
        SlurmExecutor({'cluster': 'local', 'no_such_option': '1'}, tmp_path)
