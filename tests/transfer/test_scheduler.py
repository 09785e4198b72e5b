"""Scheduler: each cell runs once, whatever is killed, and whatever happens to others."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.in_process import InProcessExecutor
from helpers.transfer_cells import ran, use_stub, values, write_job, write_stub

from mae_backbone.transfer import experiment_dir, scheduler, worker
from mae_backbone.transfer.executors import Job, LocalExecutor
from mae_backbone.transfer.scheduler import run_jobs

TESTS = Path(__file__).parents[1]
# Runs the jobs a and b, of two cells each, as mae-backbone transfer would.
RUNNER = f'''
import sys
from pathlib import Path
sys.path.insert(0, {str(TESTS)!r})
from helpers.in_process import InProcessExecutor
from helpers.transfer_cells import stub_command, write_job
from mae_backbone.transfer.executors import Job, LocalExecutor
from mae_backbone.transfer.scheduler import run_jobs
out, root = map(Path, sys.argv[1:])
Job.command = property(lambda job: stub_command(job, root))
jobs = [write_job(out, name, cells=2) for name in 'ab']
print(len(run_jobs(jobs, LocalExecutor(['', ''], out / 'jobs'))), 'failed')
'''


@pytest.fixture(autouse=True)
def _poll_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, 'POLL_SECONDS', 0.02)


def two_slots(out: Path) -> LocalExecutor:
    return LocalExecutor(['', ''], out / 'jobs')


def runner(out: Path, root: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-c', RUNNER, str(out), str(root)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def executor(tmp_path, monkeypatch) -> InProcessExecutor:
    """Runs jobs in this process, with the stub in `tmp_path`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(worker, 'PROGRAM', 'stub_program')
    monkeypatch.setattr(sys, 'argv', sys.argv)
    write_stub(tmp_path)
    return InProcessExecutor()


def test_every_cell_runs_once_and_none_again(tmp_path, executor):
    jobs = [write_job(tmp_path / 'out', 'a', cells=2), write_job(tmp_path / 'out', 'b')]
    for _ in range(2):
        assert run_jobs(jobs, executor) == {}
    assert [values(job) for job in jobs] == [[50.0, 51.0], [50.0]]
    assert sorted(ran(tmp_path)) == ['a0', 'a1', 'b0']


def test_a_failing_cell_does_not_stop_the_others_and_is_tried_again(tmp_path, executor, capfd):
    root = write_stub(tmp_path, 'if work.parent.name == "a0":\n    os.write(1, b"the last line\\n")\n    sys.exit(2)')
    jobs = [write_job(tmp_path / 'out', 'a', cells=2), write_job(tmp_path / 'out', 'b')]
    failed = run_jobs(jobs, executor)
    assert failed == {jobs[0].folders[0]: 'ended with exit code 2\nthe last line\n'}
    assert 'FAILED' in capfd.readouterr().out
    assert [values(job) for job in jobs] == [[51.0], [50.0]]
    write_stub(tmp_path)
    assert run_jobs(jobs, executor) == {}
    assert [ran(root).count(name) for name in ('a0', 'a1', 'b0')] == [2, 1, 1]


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL')
def test_the_cell_that_kills_its_process_has_failed_and_the_others_run(tmp_path, monkeypatch):
    root = write_stub(tmp_path, 'import signal\nif seed == 1:\n    os.kill(os.getpid(), signal.SIGKILL)')
    use_stub(monkeypatch, root)
    job = write_job(tmp_path / 'out', 'a', cells=3)
    failed = run_jobs([job], two_slots(tmp_path / 'out'))
    assert list(failed) == [job.folders[1]]
    assert 'SIGKILL' in failed[job.folders[1]]
    assert ran(root) == ['a0', 'a1', 'a2']


@pytest.mark.parametrize('content', [b'', b'{"values": {"top-1"', b'[]', b'\x80\x00\xff', b'{"values": {"top-1": "x"}}',
                                     b'{"values": {}}', b'{"values": {"top-1": 1.0}}'])
def test_a_cell_with_a_broken_result_runs_again_and_the_others_stay(tmp_path, executor, monkeypatch, content: bytes):
    job = write_job(tmp_path / 'out', 'a', cells=2)
    run_jobs([job], executor)
    (job.folders[0] / experiment_dir.RESULT).write_bytes(content)
    message = experiment_dir.set_aside_broken(job.folders[0])
    assert message is not None
    assert str(job.folders[0] / experiment_dir.RESULT) in message
    assert (job.folders[0] / 'result.json.broken').read_bytes() == content
    assert experiment_dir.set_aside_broken(job.folders[1]) is None
    monkeypatch.setattr(worker, '_validate', lambda *_: {'accuracy/top1': 50.0})  # the training itself is complete
    assert run_jobs([job], executor) == {}
    assert values(job) == [50.0, 51.0]
    assert ran(tmp_path).count('a1') == 1


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL')
def test_after_a_kill_nothing_finished_is_repeated(tmp_path):
    root = write_stub(tmp_path, 'import time\nif seed == 1 and not (root / "go").exists():\n    time.sleep(60)')
    with runner(tmp_path / 'out', root) as first:
        while {'a1', 'b1'} - set(ran(root)):  # both second cells are running
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    (root / 'go').touch()
    with runner(tmp_path / 'out', root) as second:  # waits until the children of the first one have ended
        assert '0 failed' in second.communicate(timeout=60)[0]
    assert [ran(root).count(name) for name in ('a0', 'b0', 'a1', 'b1')] == [1, 1, 2, 2]
    assert not list((tmp_path / 'out').rglob('*.part'))


def test_two_processes_share_the_cells(tmp_path):
    root = write_stub(tmp_path, 'import time\ntime.sleep(0.3)')
    with runner(tmp_path / 'out', root) as first, runner(tmp_path / 'out', root) as second:
        printed = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert all('0 failed' in text for text in printed), printed
    assert sorted(ran(root)) == ['a0', 'a1', 'b0', 'b1']


class FakeExecutor:
    """An executor, and its running job, that only records calls."""

    description = 'fake'

    def __init__(self, room: int) -> None:
        self.room, self.calls = room, []

    def can_start(self, job: Job) -> bool:
        return self.room > 0

    def submit(self, job: Job) -> 'FakeExecutor':
        self.room -= 1
        return self

    def done(self) -> bool:
        raise KeyboardInterrupt

    def failure(self) -> str | None:
        return None

    def cancel(self) -> None:
        self.calls.append('cancel')

    def wait(self) -> None:
        self.calls.append('wait')


def test_all_jobs_are_canceled_before_any_is_waited_for(tmp_path):
    executor = FakeExecutor(room=2)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([write_job(tmp_path / 'out', name) for name in 'abc'], executor)
    assert executor.calls == ['cancel', 'cancel', 'wait', 'wait']


def test_locks_are_checked_only_if_there_is_room(tmp_path, monkeypatch):
    jobs = [write_job(tmp_path / 'out', name) for name in 'abc']
    checked = []
    monkeypatch.setattr(experiment_dir, 'is_locked', lambda folder: checked.append(folder.name))
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, FakeExecutor(room=1))
    assert checked == ['a0', 'b0', 'c0', 'a0']  # for errors of earlier runs; then for the one that is started


class DeadExecutor(FakeExecutor):
    """Its job has died."""

    def done(self) -> bool:
        return True

    def failure(self) -> str:
        return 'it died'


def test_of_the_pending_cells_the_one_with_the_youngest_log_has_failed(tmp_path, monkeypatch):
    """A process passes over cells that another one is running."""
    job = write_job(tmp_path / 'out', 'a', cells=3)
    for age, folder in zip((200, 100), job.folders, strict=False):
        (folder / experiment_dir.LOG).touch()
        os.utime(folder / experiment_dir.LOG, (time.time() - age,) * 2)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(scheduler, 'print_line', stop)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], DeadExecutor(room=1))
    assert [(experiment_dir.read_error(folder) or '').strip() for folder in job.folders] == ['', 'it died', '']


def test_a_job_waits_for_the_cells_that_it_needs(tmp_path, executor):
    first, second, third = (write_job(tmp_path / 'out', name) for name in 'abc')
    jobs = [third._replace(after=second.folders), second._replace(after=first.folders), first]
    assert run_jobs(jobs, executor) == {}
    assert ran(tmp_path) == ['a0', 'b0', 'c0']


def test_cells_whose_encoder_was_not_made_are_not_run_and_say_why(tmp_path, executor):
    root = write_stub(tmp_path, 'if work.parent.name == "a0":\n    sys.exit(2)')
    first, second, third, other = (write_job(tmp_path / 'out', name) for name in 'abcd')
    jobs = [first, second._replace(after=first.folders), third._replace(after=second.folders), other]
    failed = run_jobs(jobs, executor)
    reason = f'not run because {first.folders[0]} was not made: ended with exit code 2'
    assert failed == {first.folders[0]: 'ended with exit code 2\n', second.folders[0]: reason,
                      third.folders[0]: reason}
    assert ran(root) == ['a0', 'd0']
    write_stub(tmp_path)
    assert run_jobs(jobs, executor) == {}, 'the same command tries again'
    assert ran(root)[2:] == ['a0', 'b0', 'c0']
