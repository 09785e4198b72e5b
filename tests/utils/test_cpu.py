"""CPUs are limited by affinity and container quota, and divided among processes."""
import os
import subprocess
import sys

import pytest

from mae_backbone.utils import cpu
from mae_backbone.utils.cpu import available_cpus, cpu_has_bfloat16, read_system_file, threads_per_process


def test_quota_below_the_affinity_limits_the_cpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu.os, 'sched_getaffinity', lambda _: set(range(16)), raising=False)
    for text, wanted in (('250000 100000', 2), ('10000 100000', 1), ('9900000 100000', 16), ('max 100000', 16),
                         ('', 16)):
        monkeypatch.setattr(cpu, 'read_system_file', lambda _, text=text: text)
        assert available_cpus() == wanted


def test_threads_of_all_processes_do_not_exceed_the_cpus(monkeypatch: pytest.MonkeyPatch):
    for cpus in (1, 2, 7, 64):
        monkeypatch.setattr(cpu, 'available_cpus', lambda cpus=cpus: cpus)
        for processes in range(1, cpus + 1):
            assert 1 <= threads_per_process(processes) <= min(8, cpus // processes)
        assert threads_per_process(cpus + 1) == 1


@pytest.mark.parametrize(('text', 'has'), [
    ('vendor_id\t: GenuineIntel\nflags\t\t: fpu avx512f avx512_bf16\n', False),
    ('vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512f avx512_bf16\n', True),
    ('vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n', False), ('flags\t\t: fpu amx_bf16\n', True),
    ('Features\t: fp asimd bf16\n', True), ('flags\t\t: fpu avx2 avx512f\n', False), ('', False), (None, False)])
def test_bfloat16_instructions_are_read_from_cpuinfo(tmp_path, text, has):
    if text is not None:
        (tmp_path / 'cpuinfo').write_text(text)
    assert cpu_has_bfloat16(str(tmp_path / 'cpuinfo')) == has


def test_missing_system_file_is_empty(tmp_path):
    assert read_system_file(str(tmp_path / 'none')) == ''
    (tmp_path / 'file').write_text('max 100000\n')
    assert read_system_file(str(tmp_path / 'file')) == 'max 100000\n'


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='only Linux has CPU affinity')
def test_affinity_limits_the_cpus():
    code = ('import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n'
            'from mae_backbone.utils.cpu import available_cpus; print(available_cpus())')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout == '1\n'
