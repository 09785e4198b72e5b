"""The folder of a cell: one living process at a time has it, and a dead one has it no more."""
import os
import signal
import subprocess
import sys

import pytest

from mae_backbone.transfer import experiment_dir

HOLDER = '''
import sys, time
from pathlib import Path
from mae_backbone.transfer.experiment_dir import claim
with claim(Path(sys.argv[1])):
    print('claimed', flush=True)
    time.sleep(60)
'''


def test_a_claim_keeps_others_out_and_ends_with_its_block(tmp_path):
    with experiment_dir.claim(tmp_path / 'cell'):
        assert experiment_dir.is_claimed(tmp_path / 'cell')
        with pytest.raises(experiment_dir.LockedError, match='another process'), \
                experiment_dir.claim(tmp_path / 'cell'):
            pass
    assert not experiment_dir.is_claimed(tmp_path / 'cell')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL')
def test_a_killed_process_claims_nothing(tmp_path):
    with subprocess.Popen([sys.executable, '-c', HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'claimed\n'
        assert experiment_dir.is_claimed(tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / 'claim').exists(), 'the file is left'
    assert not experiment_dir.is_claimed(tmp_path)


def test_results_of_something_else_are_refused_and_moved_files_are_not(tmp_path):
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'labels': (0.1,)}, {'checkpoint': 'a'})
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'labels': (0.1,)}, {'checkpoint': 'b'})
    assert experiment_dir.read_spec(tmp_path) == {'seed': 1, 'labels': [0.1], 'where': {'checkpoint': 'b'}}
    with pytest.raises(ValueError, match='another seed: choose another --work-dir'):
        experiment_dir.write_spec(tmp_path, {'seed': 2, 'labels': (0.1,)}, {'checkpoint': 'b'})


def test_an_error_has_the_last_lines_of_the_log_without_those_of_the_reason(tmp_path):
    (tmp_path / experiment_dir.LOG).write_text('\n'.join(f'line {i}' for i in range(40)) + '\nthe reason\n')
    experiment_dir.note_error(tmp_path, 'the reason')
    lines = experiment_dir.error_of(tmp_path).splitlines()
    assert lines == ['the reason', *(f'line {i}' for i in range(40 - experiment_dir.LAST_LINES, 40))]
    assert experiment_dir.error_of(tmp_path / 'none') is None
    assert experiment_dir.result_of(tmp_path) is None
