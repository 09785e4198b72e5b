"""Cells: each runs once, whatever is killed, and whatever happens to others."""
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.transfer_cells import ran, values, write_job, write_tool
from torch.distributed.elastic.multiprocessing.api import SignalException

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.executors import Processes, Slurm
from mae_backbone.transfer.scheduler import run_jobs
from mae_backbone.transfer.worker import work

TESTS = Path(__file__).parents[1]
# Runs the jobs a and b, of two cells each, as tools/transfer.py would.
RUNNER = '''
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.transfer_cells import write_job
from mae_backbone.transfer.executors import Processes
from mae_backbone.transfer.scheduler import run_jobs
out, root = map(Path, sys.argv[1:])
jobs = [write_job(out, root, name, cells=2) for name in 'ab']
print(len(run_jobs(jobs, Processes(['', ''], out / 'jobs'))), 'failed')
'''


def two_slots(out: Path) -> Processes:
    return Processes(['', ''], out / 'jobs')


def runner(out: Path, root: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-c', RUNNER.format(tests=str(TESTS)), str(out), str(root)],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_every_cell_runs_once_and_none_again(tmp_path):
    root = write_tool(tmp_path)
    jobs = [write_job(tmp_path / 'out', root, 'a', cells=2), write_job(tmp_path / 'out', root, 'b')]
    assert run_jobs(jobs, two_slots(tmp_path / 'out')) == {}
    assert [values(job) for job in jobs] == [[50.0, 51.0], [50.0]]
    assert run_jobs(jobs, two_slots(tmp_path / 'out')) == {}
    assert sorted(ran(root)) == ['a0', 'a1', 'b0']


def test_a_failing_cell_does_not_stop_the_others_and_is_tried_again(tmp_path, capsys):
    root = write_tool(tmp_path, 'if work.parent.name == "a0":\n    print("the last line")\n    sys.exit(2)')
    jobs = [write_job(tmp_path / 'out', root, 'a', cells=2), write_job(tmp_path / 'out', root, 'b')]
    failed = run_jobs(jobs, two_slots(tmp_path / 'out'))
    assert list(failed) == [jobs[0].folders[0]]
    assert failed[jobs[0].folders[0]] == 'ended with exit code 2\nthe last line\n'
    assert 'FAILED' in capsys.readouterr().out
    assert experiment_dir.result_of(jobs[0].folders[1]) is not None
    assert values(jobs[1]) == [50.0]
    write_tool(tmp_path)
    assert run_jobs(jobs, two_slots(tmp_path / 'out')) == {}
    assert ran(root).count('a0') == 2
    assert ran(root).count('a1') == ran(root).count('b0') == 1


def test_a_cell_that_takes_its_process_with_it_is_the_one_that_failed(tmp_path):
    root = write_tool(tmp_path, 'import os, signal\nif seed == 1:\n    os.kill(os.getpid(), signal.SIGKILL)')
    job = write_job(tmp_path / 'out', root, 'a', cells=3)
    failed = run_jobs([job], two_slots(tmp_path / 'out'))
    assert list(failed) == [job.folders[1]]
    assert 'SIGKILL, as where memory is short' in failed[job.folders[1]]
    assert ran(root) == ['a0', 'a1', 'a2']


def test_an_exception_is_its_own_reason(tmp_path):
    job = write_job(tmp_path / 'out', write_tool(tmp_path, 'raise ValueError("what to do")'), 'a')
    work([str(job.folders[0])])
    assert experiment_dir.error_of(job.folders[0]).startswith('what to do\n')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL')
def test_killed_and_started_again_nothing_finished_is_repeated(tmp_path):
    root = write_tool(tmp_path, 'import time\nif seed == 1 and not (pathlib.Path(__file__).parent / "go").exists():\n'
                                '    time.sleep(60)')
    with runner(tmp_path / 'out', root) as first:
        while {'a1', 'b1'} - set(ran(root)):  # both second cells are being worked at
            assert first.poll() is None, first.stdout.read()
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
    (root / 'tools' / 'go').touch()
    with runner(tmp_path / 'out', root) as second:  # which waits for the children of the first to notice
        assert '0 failed' in second.communicate(timeout=60)[0]
    begun = ran(root)
    assert begun.count('a0') == begun.count('b0') == 1
    assert begun.count('a1') == begun.count('b1') == 2
    assert not list((tmp_path / 'out').rglob('*.part'))


def test_two_processes_share_the_cells(tmp_path):
    root = write_tool(tmp_path, 'import time\ntime.sleep(0.3)')
    with runner(tmp_path / 'out', root) as first, runner(tmp_path / 'out', root) as second:
        said = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert all('0 failed' in text for text in said), said
    assert sorted(ran(root)) == ['a0', 'a1', 'b0', 'b1']


def test_a_gpu_has_one_job_at_a_time_and_a_large_job_has_several(tmp_path):
    root = write_tool(tmp_path, 'import os\nprint("GPUs", os.environ["CUDA_VISIBLE_DEVICES"])\n'
                                'folder = pathlib.Path(__file__).parent\n'
                                'for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):\n'
                                '    (folder / ("gpu" + gpu)).mkdir()\nimport time\ntime.sleep(0.2)\n'
                                'for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(","):\n'
                                '    (folder / ("gpu" + gpu)).rmdir()')
    out = tmp_path / 'out'
    jobs = [write_job(out, root, name) for name in 'abc'] + [write_job(out, root, 'd')._replace(gpus=8)]
    assert run_jobs(jobs, Processes(['3', '5'], out / 'jobs')) == {}
    used = [next(line for line in (job.folders[0] / experiment_dir.LOG).read_text().splitlines() if 'GPUs' in line)
            for job in jobs]
    assert set(used[:3]) == {'GPUs 3', 'GPUs 5'}
    assert used[3] in ('GPUs 3,5', 'GPUs 5,3')


def test_jobs_on_cpus_see_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    root = write_tool(tmp_path, 'import os\nprint("GPUs", repr(os.environ["CUDA_VISIBLE_DEVICES"]))')
    out = tmp_path / 'out'
    job = write_job(out, root, 'a', gpus=8)
    assert run_jobs([job], two_slots(out)) == {}
    assert "GPUs ''" in (job.folders[0] / experiment_dir.LOG).read_text()


class Noted:
    """A place, and what runs in it, that only notes what is asked of it."""

    def __init__(self, room: int) -> None:
        self.room, self.asked = room, []

    def has_room(self, job) -> bool:
        return self.room > 0

    def start(self, job) -> 'Noted':
        self.room -= 1
        return self

    def ended(self) -> bool:
        raise KeyboardInterrupt

    def stop(self) -> None:
        self.asked.append('stop')

    def wait(self) -> None:
        self.asked.append('wait')


def test_all_jobs_are_told_to_stop_before_any_is_waited_for(tmp_path):
    place = Noted(room=2)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([write_job(tmp_path / 'out', tmp_path, name) for name in 'abc'], place)
    assert place.asked == ['stop', 'stop', 'wait', 'wait']


def test_claims_are_looked_at_only_where_there_is_room(tmp_path, monkeypatch):
    jobs = [write_job(tmp_path / 'out', tmp_path, name) for name in 'abc']
    looked = []
    monkeypatch.setattr(experiment_dir, 'is_claimed', lambda folder: looked.append(folder.name))
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, Noted(room=1))
    assert looked == ['a0', 'b0', 'c0', 'a0']  # for errors of earlier runs; then of the one that is started


class Died(Noted):
    """A process that died."""

    def ended(self) -> bool:
        return True

    def failure(self) -> str:
        return 'it died'


def test_of_the_cells_that_are_left_the_one_with_the_youngest_log_failed(tmp_path, monkeypatch):
    """A process passes over cells that another one has at that time."""
    job = write_job(tmp_path / 'out', tmp_path, 'a', cells=3)
    for age, folder in zip((200, 100), job.folders, strict=False):
        (folder / experiment_dir.LOG).touch()
        os.utime(folder / experiment_dir.LOG, (time.time() - age,) * 2)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr('mae_backbone.transfer.scheduler.say', stop)
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job], Died(room=1))
    assert [experiment_dir.error_of(folder) and experiment_dir.error_of(folder).strip() for folder in job.folders] == [
        None, 'it died', None]


@pytest.mark.skipif(os.name == 'nt', reason='Windows ends a process without a word')
def test_a_training_on_several_gpus_that_is_told_to_stop_has_not_failed(tmp_path, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise SignalException('got a signal', sigval=signal.SIGTERM)
    monkeypatch.setattr(runpy, 'run_module', stopped)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0,1')
    monkeypatch.setattr(sys, 'argv', [])
    job = write_job(tmp_path / 'out', tmp_path, 'a', gpus=2)
    with pytest.raises(SystemExit) as end:
        work([str(job.folders[0])])
    assert end.value.code == 128 + signal.SIGTERM
    assert experiment_dir.error_of(job.folders[0]) is None


@pytest.mark.slow
def test_a_training_on_several_gpus_is_a_process_for_each(tmp_path):
    root = write_tool(tmp_path, 'import os\nif os.environ["RANK"] == "1":\n    sys.exit()\n'
                                'print("processes", os.environ["WORLD_SIZE"], sys.argv[-1])')
    out = tmp_path / 'out'
    job = write_job(out, root, 'a', gpus=8)
    assert run_jobs([job], Processes(['0', '1'], out / 'jobs')) == {}
    assert values(job) == [50.0]
    assert 'processes 2 model.backbone.init_cfg=None' in (job.folders[0] / experiment_dir.LOG).read_text()


def test_jobs_of_submitit(tmp_path):
    pytest.importorskip('submitit', reason='pip install -e ".[slurm]"')
    root = write_tool(tmp_path, 'if seed == 1:\n    sys.exit(3)')
    job = write_job(tmp_path / 'out', root, 'a', cells=2)
    failed = run_jobs([job], Slurm({'cluster': 'local', 'timeout_min': '2'}, tmp_path / 'out' / 'slurm'))
    assert list(failed) == [job.folders[1]]
    assert experiment_dir.result_of(job.folders[0])['values'] == {'top-1': 50.0}


def test_what_submitit_cannot_do_is_said(tmp_path):
    pytest.importorskip('submitit', reason='pip install -e ".[slurm]"')
    with pytest.raises(ValueError, match='--slurm: '):
        Slurm({'cluster': 'local', 'no_such_option': '1'}, tmp_path)
