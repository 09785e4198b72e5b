"""A small fuzz run, and what it would find. The figures of a large one are in docs/security.md."""
import copy
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fuzz import sandbox
from fuzz.mutations import mutate_bytes, mutate_content
from fuzz.sandbox import Step, run_steps
from helpers.driven_runs import answer

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')


def test_mutations_follow_the_seed_and_leave_the_original():
    data, content = bytes(range(256)), {'a': [1, {'b': 'x'}], 'c': None}
    before = copy.deepcopy(content)
    for mutate, original in ((mutate_bytes, data), (mutate_content, content)):
        first, second = ([repr(mutate(original, random.Random(seed))) for seed in range(50)] for _ in range(2))
        assert first == second
        assert len(set(first)) > 30
    assert content == before


def fail(error: Exception) -> None:
    raise error


def test_every_fault_is_found_and_belongs_to_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandbox, '_BLOCKED', 2)
    monkeypatch.setattr(sandbox, 'MEMORY_LIMIT', 2**33)
    uses = {'read': lambda: None, 'refused': lambda: fail(ValueError('bad')), 'missing': lambda: fail(OSError('gone')),
            'crash': lambda: os.kill(os.getpid(), signal.SIGKILL), 'defect': lambda: fail(TypeError('x')),
            'loop': lambda: [None for _ in iter(int, 1)],
            'blocked': lambda: time.sleep(60), 'exit': lambda: os._exit(0), 'command': lambda: 2,
            'memory': lambda: np.ones(2**40), 'last': lambda: None}
    outcomes = {outcome.input: outcome for outcome in run_steps(
        [Step(name, '', use) for name, use in uses.items()], tmp_path, time_limit=1)}
    assert list(outcomes) == list(uses)
    assert {name: outcome.fault for name, outcome in outcomes.items() if outcome.fault} == {
        'crash': 'crash', 'defect': 'exit code', 'loop': 'hang', 'blocked': 'hang', 'exit': 'exit code',
        'memory': 'memory'}
    assert [name for name, outcome in outcomes.items() if outcome.code == 2] == ['refused', 'missing', 'command']
    assert 'error: bad' in outcomes['refused'].printed


def test_peak_memory_is_that_of_each_step(tmp_path: Path):
    low, high, after = run_steps([Step('a', '', lambda: None), Step('b', '', lambda: np.ones(2**26).sum()),
                                  Step('c', '', lambda: None)], tmp_path)
    assert high.peak - low.peak > 2**28
    assert after.peak - low.peak < 2**28


@pytest.mark.slow
def test_small_run_has_no_fault(tmp_path: Path):
    """In another process, as it forks: threads of earlier tests would not survive."""
    arguments = ['--images', '12', '--checkpoints', '4', '--annotations', '3', '--only', 'npy', 'shard',
                 'pretraining content', 'class list', '--keep', str(tmp_path / 'faults'), '--json',
                 str(tmp_path / 'run.json')]
    (done,) = answer('helpers.forked_commands', [
        dict(module='fuzz.run', arguments=arguments, environment=dict(os.environ))])
    assert done['code'] == 0, done['text'][-3000:]
    rows = json.loads((tmp_path / 'run.json').read_text())['rows']
    assert rows.keys() == {'image: npy', 'image: shard', 'checkpoint: pretraining content', 'annotation: class list'}
    assert all(row['files'] == row['read'] + row['refused'] for row in rows.values())
    assert 'image: npy | 6 |' in done['text']
