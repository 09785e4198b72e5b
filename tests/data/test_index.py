"""Tables on disk: the same for all who open them, made anew when they no longer hold, small and quick to open."""
import multiprocessing
import os
import pickle
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mae_backbone.data import index
from mae_backbone.data.index import Names, Stamp, cache_folder, columns, kept_table, load, save

STRINGS = ['a', '', 'ünï 日本', 'b' * 300, 'new\nline', os.fsdecode(b'no \xff utf-8'), 'a']


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index, 'KEEP_FROM', 1)


def old(path: Path) -> Path:
    """As if it had not changed lately."""
    os.utime(path, ns=(0, time.time_ns() - 10**10))
    return path


def make(folder: Path, *, calls: list, strings: list[str] = STRINGS):
    """What a source does: a table of a folder, and a note that it was made."""
    def build():
        calls.append(folder)
        return columns('names', strings), [Stamp.of_folder(folder, folder.stat().st_mtime_ns)]
    return kept_table(f'{folder}\ntest', build)


def test_strings_come_back_as_they_were():
    names = Names.of(STRINGS)
    assert len(names) == len(STRINGS)
    assert [names[i] for i in range(len(names))] == list(names) == STRINGS
    for outside in (-1, len(STRINGS)):
        with pytest.raises(IndexError, match=f'{outside} is not in 0..6'):
            names[outside]
    assert list(Names.of([])) == []


def test_a_table_is_made_once_and_found_again(tmp_path):
    calls = []
    (tmp_path / 'data').mkdir()
    old(tmp_path / 'data')
    first, second = (make(tmp_path / 'data', calls=calls) for _ in range(2))
    assert len(calls) == 1
    for table in (first, second, pickle.loads(pickle.dumps(first))):
        assert list(table.names('names')) == STRINGS
    assert [file.suffix for file in cache_folder().iterdir()] == ['.index']
    assert len(pickle.dumps(first)) < 1000  # the name of the file, not what is in it


def test_a_change_of_a_folder_and_one_too_young_to_be_seen_make_it_anew(tmp_path, capsys):
    calls, folder = [], tmp_path / 'data'
    folder.mkdir()
    make(folder, calls=calls)  # just made: another file may come within the same tick of the clock
    make(old(folder), calls=calls)
    assert capsys.readouterr().out == (f'the list of {folder} is out of date, {folder} has changed: it is made anew\n')
    make(folder, calls=calls)
    (folder / 'new.png').touch()
    old(folder)
    make(folder, calls=calls)
    make(folder, calls=calls)
    (folder / 'new.png').unlink()
    make(old(folder), calls=calls)
    assert len(calls) == 4


@pytest.mark.parametrize('damage', [
    lambda data: b'', lambda data: data[:20], lambda data: data[:-64], lambda data: data + b'x',
    lambda data: b'other' + data[5:], lambda data: data[:24] + b'\xff' * 8 + data[32:],
    lambda data: data[:40] + b'\0' + data[41:], lambda data: data.replace(b'"i8"', b'"O8"'),
    lambda data: data.replace(b'"crc"', b'"cra"'), lambda data: data.replace(b'bbb', b'bcb', 1),
    lambda data: data.replace(b'"key": "', b'"key": "x'), lambda data: os.urandom(5000),
])
def test_a_damaged_table_is_made_anew_and_said_so(tmp_path, capsys, damage):
    calls, folder = [], tmp_path / 'data'
    folder.mkdir()
    file = make(old(folder), calls=calls).file
    file.write_bytes(damage(file.read_bytes()))
    assert list(make(folder, calls=calls).names('names')) == STRINGS
    assert f'the list of {folder} in {file} is damaged' in capsys.readouterr().out
    make(folder, calls=calls)
    assert len(calls) == 2
    assert capsys.readouterr().out == ''


def test_small_tables_leave_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(index, 'KEEP_FROM', len(STRINGS) + 1)
    calls = []
    (tmp_path / 'data').mkdir()
    for _ in range(2):
        table = make(old(tmp_path / 'data'), calls=calls)
        assert list(pickle.loads(pickle.dumps(table)).names('names')) == STRINGS
    assert len(calls) == 2
    assert not cache_folder().exists()


def test_without_a_place_to_keep_it_there_is_a_table_and_advice(tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').touch()
    (tmp_path / 'data').mkdir()
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'file/cache'))
    assert list(make(tmp_path / 'data', calls=[]).names('names')) == STRINGS
    assert 'cannot be kept in' in capsys.readouterr().out


def test_the_cache_is_where_the_user_says(monkeypatch):
    assert cache_folder().name == 'cache'
    monkeypatch.delenv('MAE_BACKBONE_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
    assert cache_folder() == Path('/somewhere/mae_backbone')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/home/me')
    assert cache_folder() == Path('/home/me/.cache/mae_backbone')


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    file = tmp_path / 'x.index'
    save(file, columns('names', STRINGS), key='k')
    monkeypatch.setattr(os, 'fsync', lambda _: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(OSError, match='No space left'):
        save(file, columns('names', ['other']), key='k')
    assert list(load(file, key='k').names('names')) == STRINGS
    assert list(tmp_path.iterdir()) == [file]


def test_a_worker_refuses_a_table_that_another_run_has_replaced(tmp_path):
    file = tmp_path / 'x.index'
    save(file, columns('names', STRINGS), key='k')
    pickled = pickle.dumps(load(file))
    save(file, columns('names', STRINGS), key='k')  # the same again
    assert list(pickle.loads(pickled).names('names')) == STRINGS
    save(file, columns('names', ['other']), key='k')
    with pytest.raises(ValueError, match=r'made anew by another run .* start this run again'):
        pickle.loads(pickled)


def _wait_and_make(folder: Path, made: multiprocessing.Queue) -> None:
    def build():
        time.sleep(0.3)
        made.put(os.getpid())
        return columns('names', STRINGS), [Stamp.of_folder(folder, folder.stat().st_mtime_ns)]
    kept_table(f'{folder}\ntest', build)


def test_of_the_processes_of_a_run_one_makes_it(tmp_path, monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '3')
    (tmp_path / 'data').mkdir()
    fork = multiprocessing.get_context('fork')
    made = fork.SimpleQueue()
    processes = [fork.Process(target=_wait_and_make, args=(old(tmp_path / 'data'), made)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    made.get()
    assert made.empty()


@pytest.mark.parametrize('count', [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_millions_of_entries_open_at_once_and_take_few_bytes_each(tmp_path, count):
    text = np.frombuffer(b''.join(b'n%08d/n%08d_%07d.JPEG' % (i // 1000, i // 1000, i) for i in range(count)), np.uint8)
    ends = np.arange(1, count + 1, dtype=np.int64) * (len(text) // count)
    file = tmp_path / 'x.index'
    save(file, {'names': text, 'names_ends': ends}, key='k')
    assert file.stat().st_size / count < 60

    tracemalloc.start()
    start = time.perf_counter()
    names = load(file, key='k').names('names')
    took = time.perf_counter() - start
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f'{count:,} entries: {file.stat().st_size / count:.0f} bytes each, opened in {took:.2f} s')
    last = count - 1
    assert names[last] == f'n{last // 1000:08}/n{last // 1000:08}_{last:07}.JPEG'
    assert took < count / 1e6
    assert allocated < 1_000_000  # what a process has for itself: the rest are pages that all share
