"""CPU time of trainings: validations and other work do not count, and a resumed run continues its count."""
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mae_backbone.hooks import cpu_time
from mae_backbone.hooks.cpu_time import CpuTimeHook
from mae_backbone.utils.run_logs import CPU_TIME, cpu_times


class Clocks:
    """Seconds that a test moves on by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cpu, self.clock = 100.0, 1000.0
        monkeypatch.setattr(cpu_time, '_clocks', lambda: (self.cpu, self.clock))

    def move(self, cpu: float, clock: float) -> None:
        self.cpu, self.clock = self.cpu + cpu, self.clock + clock


def run_in(folder: Path, **info: object) -> SimpleNamespace:
    return SimpleNamespace(work_dir=str(folder), iter=0, message_hub=SimpleNamespace(runtime_info=info))


def validate(hook: CpuTimeHook, run: SimpleNamespace, clocks: Clocks, at: int, value: float) -> None:
    run.iter = at
    hook.before_val(run)
    clocks.move(500, 500)
    hook.after_val_epoch(run, {'top1': value, 'name': 'text'})
    hook.after_val(run)


def saved(hook: CpuTimeHook, run: SimpleNamespace) -> dict:
    content: dict = {'message_hub': {'runtime_info': {}}}
    hook.before_save_checkpoint(run, content)
    return content['message_hub']['runtime_info']


def test_validations_do_not_count(tmp_path, monkeypatch):
    clocks, hook, run = Clocks(monkeypatch), CpuTimeHook(), run_in(tmp_path)
    clocks.move(7, 7)  # until the training starts
    hook.before_train(run)
    clocks.move(60, 120)
    validate(hook, run, clocks, 10, 50.0)
    clocks.move(30, 90)
    run.iter = 20
    hook.after_train(run)
    assert cpu_times(tmp_path) == [
        {'iter': 10, 'cpu_minutes': 1.0, 'minutes': 2.0, 'metrics': {'top1': 50.0}},
        {'iter': 20, 'cpu_minutes': 1.5, 'minutes': 3.5, 'metrics': {}}]
    validate(hook, run, clocks, 20, 99.0)  # of another command, after the training
    assert len(cpu_times(tmp_path)) == 2


def test_a_killed_run_continues_the_count_of_its_checkpoint(tmp_path, monkeypatch):
    clocks, hook, run = Clocks(monkeypatch), CpuTimeHook(), run_in(tmp_path)
    hook.before_train(run)
    clocks.move(60, 60)
    run.iter = 5
    info = saved(hook, run)
    clocks.move(60, 60)
    validate(hook, run, clocks, 10, 40.0)  # lost with the run
    with open(tmp_path / CPU_TIME, 'a', encoding='utf-8') as file:
        file.write('{"iter": 11, "cpu_')
    again, resumed = CpuTimeHook(), run_in(tmp_path, **info)
    again.before_train(resumed)
    clocks.move(90, 90)
    validate(again, resumed, clocks, 10, 41.0)
    again.after_train(resumed)
    assert cpu_times(tmp_path) == [{'iter': 10, 'cpu_minutes': 2.5, 'minutes': 2.5, 'metrics': {'top1': 41.0}}]


def test_a_checkpoint_saved_in_a_validation_does_not_count_it(tmp_path, monkeypatch):
    clocks, hook, run = Clocks(monkeypatch), CpuTimeHook(), run_in(tmp_path)
    hook.before_train(run)
    clocks.move(30, 30)
    hook.before_val(run)
    clocks.move(500, 500)
    assert saved(hook, run) == {'cpu_time': [30.0, 30.0]}


@pytest.mark.parametrize('stored', ['x', [1], [1.0, 'x'], None])
def test_other_content_of_a_checkpoint_is_not_taken(tmp_path, monkeypatch, stored: object):
    clocks, hook, run = Clocks(monkeypatch), CpuTimeHook(), run_in(tmp_path, cpu_time=stored)
    hook.before_train(run)
    clocks.move(6, 6)
    hook.after_train(run)
    assert cpu_times(tmp_path)[0]['cpu_minutes'] == 0.1


def test_waiting_does_not_count_and_work_of_threads_and_children_does(monkeypatch):
    children: list[SimpleNamespace] = []
    monkeypatch.setattr(cpu_time.psutil, 'Process', lambda: SimpleNamespace(children=lambda recursive: children))
    before = cpu_time._clocks()
    time.sleep(0.2)
    waited = cpu_time._clocks()
    assert waited[0] - before[0] < 0.15
    assert waited[1] - before[1] >= 0.2
    child = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=3.0, system=1.0))
    children += [child, child]
    assert cpu_time._clocks()[0] - waited[0] == pytest.approx(8.0, abs=0.2)


def test_a_run_without_the_hook_has_no_cpu_times(tmp_path):
    assert cpu_times(tmp_path) == []
    (tmp_path / CPU_TIME).write_text(json.dumps({'iter': 3}) + '\n[]\nnot JSON\n')
    assert cpu_times(tmp_path) == []
