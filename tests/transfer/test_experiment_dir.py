"""Folder of a cell: one living process at a time holds its lock; broken files are set aside."""
import os
import signal
import subprocess
import sys

import pytest

from mae_backbone.transfer import experiment_dir
from mae_backbone.transfer.experiment_dir import RESULT, SPEC

HOLDER = '''
import sys, time
from pathlib import Path
from mae_backbone.transfer.experiment_dir import lock
with lock(Path(sys.argv[1])):
    print('locked', flush=True)
    time.sleep(60)
'''


def test_a_lock_keeps_others_out_until_its_block_ends(tmp_path):
    with experiment_dir.lock(tmp_path / 'cell'):
        assert experiment_dir.is_locked(tmp_path / 'cell')
        with pytest.raises(experiment_dir.LockedError, match='another process'), experiment_dir.lock(tmp_path / 'cell'):
            pass
    assert not experiment_dir.is_locked(tmp_path / 'cell')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no SIGKILL')
def test_the_lock_of_a_killed_process_is_released(tmp_path):
    with subprocess.Popen([sys.executable, '-c', HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == 'locked\n'
        assert experiment_dir.is_locked(tmp_path)
        holder.send_signal(signal.SIGKILL)
    assert not experiment_dir.is_locked(tmp_path)


def test_results_of_another_spec_are_refused_and_moved_files_are_not(tmp_path):
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'labels': (0.1,)}, {'checkpoint': 'a'})
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'labels': (0.1,)}, {'checkpoint': 'b'})
    assert experiment_dir.read_spec(tmp_path) == {'seed': 1, 'labels': [0.1], 'where': {'checkpoint': 'b'}}
    with pytest.raises(ValueError, match='a different seed: choose another --work-dir'):
        experiment_dir.write_spec(tmp_path, {'seed': 2, 'labels': (0.1,)}, {'checkpoint': 'b'})


def test_results_for_other_classes_are_refused_and_both_lists_are_shown(tmp_path):
    experiment_dir.write_spec(tmp_path, {'seed': 1}, {})  # by an earlier version
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'classes': ['cat', 'dog']}, {})
    experiment_dir.write_spec(tmp_path, {'seed': 1}, {})  # not known
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'classes': ['cat', 'dog']}, {})
    with pytest.raises(ValueError, match='for the classes cat, dog, the data have dog, wolf: choose'):
        experiment_dir.write_spec(tmp_path, {'seed': 1, 'classes': ['dog', 'wolf']}, {})


def test_results_for_other_files_are_refused_and_both_amounts_are_shown(tmp_path):
    first = {'files': 10, 'bytes': 2048, 'hash': 'a'}
    experiment_dir.write_spec(tmp_path, {'seed': 1}, {})  # by an earlier version
    experiment_dir.write_spec(tmp_path, {'seed': 1, 'files': first}, {})
    for files, now in ((first | {'hash': 'b'}, '10 files of 2,048 bytes with other names or sizes: choose'),
                       (first | {'files': 9, 'hash': 'b'}, '9 files of 2,048 bytes: choose')):
        with pytest.raises(ValueError, match=f'the folder of the data had 10 files of 2,048 bytes, and now has {now}'):
            experiment_dir.write_spec(tmp_path, {'seed': 1, 'files': files}, {})


def test_an_error_has_the_last_lines_of_the_log_except_those_that_repeat_the_reason(tmp_path):
    (tmp_path / experiment_dir.LOG).write_text('\n'.join(f'line {i}' for i in range(40)) + '\nthe reason\n')
    experiment_dir.write_error(tmp_path, 'the reason')
    lines = experiment_dir.read_error(tmp_path).splitlines()
    assert lines == ['the reason', *(f'line {i}' for i in range(40 - experiment_dir.NUM_LOG_LINES, 40))]
    assert experiment_dir.read_error(tmp_path / 'none') is None
    assert experiment_dir.read_result(tmp_path) is None


@pytest.mark.parametrize('content', [b'', b'{"seed": 1', b'[]', b'{"seed": 1}', b'\xff\x00'])
def test_a_folder_with_a_broken_spec_is_set_aside_as_a_whole(tmp_path, content: bytes):
    folder = tmp_path / 'cell'
    experiment_dir.write_spec(folder, {'seed': 1}, {})
    (folder / 'run').mkdir()
    (folder / SPEC).write_bytes(content)
    assert str(folder / SPEC) in experiment_dir.set_aside_broken(folder)
    assert (tmp_path / 'cell.broken' / 'run').is_dir()
    experiment_dir.write_spec(folder, {'seed': 1}, {})
    (folder / SPEC).write_bytes(content)
    assert experiment_dir.set_aside_broken(folder).endswith('renamed to cell.broken2, the cell runs again')


def test_figures_that_are_gone_make_their_result_broken(tmp_path):
    (tmp_path / 'a.png').touch()
    (tmp_path / RESULT).write_text('{"pictures": {"a.png": "words"}, "faults": []}')
    assert experiment_dir.set_aside_broken(tmp_path) is None
    (tmp_path / 'a.png').unlink()
    assert experiment_dir.read_result(tmp_path) is None
    assert 'a.png, which does not exist' in experiment_dir.set_aside_broken(tmp_path)


def test_files_in_use_are_not_set_aside(tmp_path):
    (tmp_path / RESULT).write_text('')
    with experiment_dir.lock(tmp_path):
        assert experiment_dir.set_aside_broken(tmp_path) is None
    assert (tmp_path / RESULT).exists()
