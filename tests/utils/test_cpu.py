"""Processors: of the affinity and of the quota of a container, and shared among processes."""
import os
import subprocess
import sys

import pytest

from mae_backbone.utils import cpu
from mae_backbone.utils.cpu import available_cpus, read_system_file, threads_per_process


def test_a_quota_counts_where_it_is_below_the_affinity(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu.os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)
    for text, wanted in (('250000 100000', 2), ('10000 100000', 1), ('9900000 100000', 16), ('max 100000', 16),
                         ('', 16)):
        monkeypatch.setattr(cpu, 'read_system_file', lambda _, text=text: text)
        assert available_cpus() == wanted


def test_processes_together_have_no_more_threads_than_there_are_processors(monkeypatch: pytest.MonkeyPatch):
    for there in (1, 2, 7, 64):
        monkeypatch.setattr(cpu, 'available_cpus', lambda there=there: there)
        for processes in range(1, there + 1):
            assert 1 <= threads_per_process(processes) <= min(8, there // processes)
        assert threads_per_process(there + 1) == 1


def test_a_file_that_no_system_has_says_nothing(tmp_path):
    assert read_system_file(str(tmp_path / 'none')) == ''
    (tmp_path / 'file').write_text('max 100000\n')
    assert read_system_file(str(tmp_path / 'file')) == 'max 100000\n'


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='Linux alone lets a process choose its processors')
def test_the_affinity_of_a_process_bounds_them():
    code = ('import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n'
            'from mae_backbone.utils.cpu import available_cpus; print(available_cpus())')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '1\n'
