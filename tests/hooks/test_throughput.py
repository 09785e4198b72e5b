"""Speed, memory and waiting are measured over all processes; a slow data loader is reported once."""
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.pretraining_runs import RandomCrops, log_of, runner

from mae_backbone.hooks import throughput
from mae_backbone.hooks.scalar_history import history
from mae_backbone.hooks.throughput import ThroughputHook, count_images, duration, loader_advice

HOOK = dict(type='mae_backbone.ThroughputHook')


def test_slow_loader_is_measured_and_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = RandomCrops.__getitem__
    monkeypatch.setattr(RandomCrops, '__getitem__', lambda self, i: (time.sleep(0.02), plain(self, i))[1])
    run = runner(tmp_path, [HOOK], dict(by_epoch=False, max_iters=30), interval=5)
    run.train()
    at, speed = history(run.message_hub, 'images_per_s')
    assert at.tolist() == [5, 10, 15, 20, 25, 30]
    assert (speed[1:] < 50).all()  # 4 images take 80 ms to load
    assert (history(run.message_hub, 'waiting')[1] > 0.3).all()
    said = log_of(tmp_path)
    assert said.count('the data loader limits this run') == 1
    assert 'images_per_s: ' in said
    assert 'waiting: ' in said
    assert said.count('measured over 19 steps: ') == 1


def test_time_of_other_hooks_is_not_waiting(tmp_path: Path):
    from mmengine.hooks import Hook

    class Slow(Hook):
        priority = 'VERY_LOW'

        def after_train_iter(self, *_, **__) -> None:
            time.sleep(0.05)

        def after_train_epoch(self, *_) -> None:
            time.sleep(0.5)

    run = runner(tmp_path, [HOOK, Slow()], dict(by_epoch=True, max_epochs=3), interval=2, images=24)
    run.train()
    assert (history(run.message_hub, 'waiting')[1] < 0.5).all()


def test_epoch_shorter_than_the_interval_is_measured(tmp_path: Path):
    run = runner(tmp_path, [HOOK], dict(by_epoch=True, max_epochs=2), interval=50)
    run.train()
    assert history(run.message_hub, 'images_per_s')[0].tolist() == [2, 4]


def test_warning_repeats_only_after_the_loader_caught_up(tmp_path: Path):
    run, hook = runner(tmp_path, [], dict(by_epoch=False, max_iters=1)), ThroughputHook(waiting=0.2)
    said = []
    for waiting in (0.1, 0.3, 0.31, 0.15, 0.32, 0.05, 0.33):  # MMEngine logs equal warnings once
        before = log_of(tmp_path).count('limits this run')
        hook.advise(run, waiting)
        said.append(log_of(tmp_path).count('limits this run') - before)
    assert said == [0, 1, 0, 0, 0, 0, 1]


def test_padding_images_do_not_count():
    assert count_images(dict(inputs=torch.zeros(4, 2, 2, 3), weights=torch.tensor([4 / 3, 4 / 3, 4 / 3, 0]))) == 3
    assert count_images(dict(inputs=[torch.zeros(3, 2, 2)] * 5)) == 5


MEMORY_OF_A_FORK = """
import os, signal
from mae_backbone.hooks.throughput import memory_in_use
before = memory_in_use()
block = bytes([1]) * (64 * 2**20)
child = os.fork()
if child == 0:
    signal.pause()
with_child = memory_in_use()
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
print(before, with_child)
"""


def test_memory_includes_children_and_counts_shared_pages_once():
    """In a process of its own: children of this one that end at the same time would be counted."""
    command = [sys.executable, '-c', MEMORY_OF_A_FORK]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    before, with_child = map(float, printed.split())
    assert before + 50 < with_child < before + 64 + 80  # both share the block until one writes to it


@pytest.mark.parametrize(('seconds', 'text'), [
    (0.4, '0 s'), (59, '59 s'), (61, '1 min 1 s'), (3600, '1 h 0 min'), (3 * 86400 + 4 * 3600 + 100, '3 d 4 h')])
def test_duration_is_readable(seconds: float, text: str):
    assert duration(seconds) == text


def test_more_workers_are_advised_if_cpus_are_free():
    assert 'num_workers (now 2, with 8 CPUs for 1 processes)' in loader_advice(0.4, 2, 8, 1)
    assert 'num_workers' not in loader_advice(0.4, 4, 8, 2)
    assert '40%' in loader_advice(0.4, 4, 8, 2)


def test_fraction_out_of_range_raises():
    with pytest.raises(ValueError, match=r'waiting=2, expected a fraction'):
        ThroughputHook(waiting=2)


def test_cpus_that_the_container_does_not_grant_are_not_advised(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(throughput, 'available_cpus', lambda: 2)
    runner = SimpleNamespace(logger=SimpleNamespace(warning=said.append),
                             train_dataloader=SimpleNamespace(num_workers=2))
    ThroughputHook().advise(runner, 0.9)
    assert len(said) == 1
    assert 'num_workers' not in said[0]
