"""Cached tables are equal for all processes, rebuilt when out of date or damaged, small and fast to open."""
import json
import multiprocessing
import os
import pickle
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mae_backbone.data import index
from mae_backbone.data.index import Names, Stamp, Table, cache_folder, columns, kept_table, load, save

STRINGS = ['a', '', 'ünï 日本', 'b' * 300, 'new\nline', os.fsdecode(b'no \xff utf-8'), 'a']


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index, 'KEEP_FROM', 1)


def old(path: Path) -> Path:
    """As if it had not changed lately."""
    os.utime(path, ns=(0, time.time_ns() - 10**10))
    return path


def make(folder: Path, *, calls: list, strings: list[str] = STRINGS) -> Table:
    """Opens the table of a folder, as a data source does; each build appends to `calls`."""
    def build():
        calls.append(folder)
        return columns('names', strings), [Stamp.of_folder(folder, folder.stat().st_mtime_ns)]
    return kept_table(f'{folder}\ntest', build)


def test_names_return_the_strings():
    names = Names.of(STRINGS)
    assert len(names) == len(STRINGS)
    assert [names[i] for i in range(len(names))] == list(names) == STRINGS
    for outside in (-1, len(STRINGS)):
        with pytest.raises(IndexError, match=f'{outside} is not in 0..6'):
            names[outside]
    assert list(Names.of([])) == []


def test_table_is_built_once(tmp_path: Path):
    calls = []
    (tmp_path / 'data').mkdir()
    old(tmp_path / 'data')
    first, second = (make(tmp_path / 'data', calls=calls) for _ in range(2))
    assert len(calls) == 1
    for table in (first, second, pickle.loads(pickle.dumps(first))):
        assert list(table.names('names')) == STRINGS
    assert [folder.suffix for folder in cache_folder().iterdir()] == ['.table']
    assert len(pickle.dumps(first)) < 1000  # the path, not the content


def test_table_is_plain_npy_files_and_json(tmp_path: Path):
    (tmp_path / 'data').mkdir()
    folder = make(old(tmp_path / 'data'), calls=[]).folder
    header = json.loads((folder / 'header.json').read_text())
    assert header['key'] == f'{tmp_path / "data"}\ntest'
    ends = np.load(folder / header['arrays']['names_ends']['file'])
    assert ends.tolist() == np.cumsum([len(os.fsencode(string)) for string in STRINGS]).tolist()


def test_changed_or_recent_folder_rebuilds_the_table(tmp_path: Path, capsys: pytest.CaptureFixture):
    calls, folder = [], tmp_path / 'data'
    folder.mkdir()
    make(folder, calls=calls)  # just created: another file may come within the same tick of the clock
    make(old(folder), calls=calls)
    assert capsys.readouterr().out == (
        f'the cached list of {folder} is out of date because {folder} has changed: building it again\n')
    make(folder, calls=calls)
    (folder / 'new.png').touch()
    old(folder)
    make(folder, calls=calls)
    make(folder, calls=calls)
    (folder / 'new.png').unlink()
    make(old(folder), calls=calls)
    assert len(calls) == 4


@pytest.mark.parametrize('damage', [
    lambda data: None, lambda data: b'', lambda data: data[:20], lambda data: data[:-3], lambda data: data + b'x',
    lambda data: b'other' + data[5:], lambda data: data.replace(b'bbb', b'bcb', 1),
    lambda data: data.replace(b'"int64"', b'"object"'), lambda data: data.replace(b'"crc"', b'"cra"'),
    lambda data: data.replace(b'names-', b'../names-'), lambda data: data.replace(b'"key": "', b'"key": "x'),
    lambda data: os.urandom(5000),
])
def test_damaged_table_is_rebuilt_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture,
                                                 damage: Callable[[bytes], bytes | None]):
    folder, damaged = tmp_path / 'data', 0
    folder.mkdir()
    table = make(old(folder), calls=[]).folder
    for file in sorted(table.iterdir()):
        content = file.read_bytes()
        broken = damage(content)
        if broken == content:
            continue
        file.unlink()
        if broken is not None:
            file.write_bytes(broken)
        calls = []
        assert list(make(folder, calls=calls).names('names')) == STRINGS
        assert f'the cached list of {folder} in {table} is damaged' in capsys.readouterr().out
        make(folder, calls=calls)
        assert len(calls) == 1
        assert capsys.readouterr().out == ''
        damaged += 1
    assert damaged


def test_small_table_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, 'KEEP_FROM', len(STRINGS) + 1)
    calls = []
    (tmp_path / 'data').mkdir()
    for _ in range(2):
        table = make(old(tmp_path / 'data'), calls=calls)
        assert list(pickle.loads(pickle.dumps(table)).names('names')) == STRINGS
    assert len(calls) == 2
    assert not cache_folder().exists()


def test_unwritable_cache_gives_a_table_and_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture):
    (tmp_path / 'file').touch()
    (tmp_path / 'data').mkdir()
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'file/cache'))
    monkeypatch.setenv('WORLD_SIZE', '2')  # neither can a lock be taken there
    assert list(make(tmp_path / 'data', calls=[]).names('names')) == STRINGS
    assert 'cannot be cached in' in capsys.readouterr().out


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert cache_folder().name == 'cache'
    monkeypatch.delenv('MAE_BACKBONE_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
    assert cache_folder() == Path('/somewhere/mae_backbone')
    monkeypatch.delenv('XDG_CACHE_HOME')
    monkeypatch.setenv('HOME', '/home/me')
    assert cache_folder() == Path('/home/me/.cache/mae_backbone')


@pytest.mark.parametrize('writes', [0, 1, 2])
def test_failed_save_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int):
    """`writes`: files that are complete before the disk is full."""
    folder = tmp_path / 'x.table'
    save(folder, columns('names', STRINGS), key='k')
    fsync, complete = os.fsync, []

    def full(descriptor: int) -> None:
        if len(complete) == 2 * writes:  # file and folder are flushed
            raise OSError(28, 'No space left on device')
        complete.append(descriptor)
        fsync(descriptor)
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        save(folder, columns('names', ['other']), key='k')
    assert list(load(folder, key='k').names('names')) == STRINGS
    assert not list(folder.glob('.*'))
    monkeypatch.undo()
    save(folder, columns('names', ['other']), key='k')
    assert list(load(folder, key='k').names('names')) == ['other']
    assert len(list(folder.iterdir())) == 3


def test_worker_refuses_a_table_that_another_run_replaced(tmp_path: Path):
    folder = tmp_path / 'x.table'
    save(folder, columns('names', STRINGS), key='k')
    pickled = pickle.dumps(load(folder))
    save(folder, columns('names', STRINGS), key='k')  # the same content
    assert list(pickle.loads(pickled).names('names')) == STRINGS
    save(folder, columns('names', ['other']), key='k')
    with pytest.raises(ValueError, match=r'was replaced by another run .* start this run again'):
        pickle.loads(pickled)


def _wait_and_make(folder: Path, made: multiprocessing.Queue) -> None:
    def build():
        time.sleep(0.3)
        made.put(os.getpid())
        return columns('names', STRINGS), [Stamp.of_folder(folder, folder.stat().st_mtime_ns)]
    kept_table(f'{folder}\ntest', build)


def test_one_process_of_a_distributed_run_builds_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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
def test_millions_of_entries_open_fast_in_few_bytes(tmp_path: Path, count: int):
    text = np.tile(np.frombuffer(b'n00000000/n00000000_0000000.JPEG', np.uint8), (count, 1))
    numbers = np.arange(count)
    for last, number in ((8, numbers // 1000), (18, numbers // 1000), (26, numbers)):
        for digit in range(7):
            text[:, last - digit] = ord('0') + number // 10**digit % 10
    text, width = text.ravel(), text.shape[1]
    ends = np.arange(1, count + 1, dtype=np.int64) * width
    folder = tmp_path / 'x.table'
    save(folder, {'names': text, 'names_ends': ends}, key='k')
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert size / count < 60

    tracemalloc.start()
    start = time.perf_counter()
    names = load(folder, key='k').names('names')
    took = time.perf_counter() - start
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f'{count:,} entries: {size / count:.0f} bytes each, opened in {took:.2f} s')
    last = count - 1
    assert names[last] == f'n{last // 1000:08}/n{last // 1000:08}_{last:07}.JPEG'
    assert took < count / 1e6
    assert allocated < 1_000_000  # private memory of a process; the mapped pages are shared
