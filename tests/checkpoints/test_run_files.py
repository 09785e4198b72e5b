"""Checkpoint files of a run: written completely or not at all, found in order, damaged ones recognized."""
import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pytest
import torch

from mae_backbone.checkpoints.reading import CheckpointError
from mae_backbone.checkpoints.run_files import (
    DiskFullError,
    find_corruption,
    latest_intact,
    remove_partial_files,
    resume_path,
    saved_checkpoints,
    size_of,
    write_checkpoint,
    write_note,
)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def save(folder: Path, name: str, age: int, *, noted: bool = False) -> Path:
    """A checkpoint that was written `age` seconds ago."""
    path = folder / name
    torch.save(dict(x=torch.arange(1000.0)), path)
    os.utime(path, ns=(0, 10**18 - age * 10**9))
    if noted:
        write_note(path, folder)
        os.utime(folder / 'last_checkpoint', ns=(0, 10**18 - age * 10**9))
    return path


def spoil(path: Path, how: str) -> Path:
    data = bytearray(path.read_bytes())
    if how == 'cut':
        data = data[:-100]
    elif how == 'empty':
        data = bytearray()
    elif how == 'flip':  # in the middle of the numbers, which torch would read without a word
        with zipfile.ZipFile(path) as archive:
            info = next(info for info in archive.infolist() if info.filename.endswith('data/0'))
        data[info.header_offset + 500 + len(info.filename)] ^= 4
    age = path.stat().st_mtime_ns
    path.write_bytes(data)
    os.utime(path, ns=(0, age))
    return path


def test_written_checkpoint_is_read(tmp_path: Path):
    write_checkpoint(dict(x=torch.arange(5)), tmp_path / 'a.pth')
    assert find_corruption(tmp_path / 'a.pth') is None
    assert torch.load(tmp_path / 'a.pth', weights_only=True)['x'].tolist() == [0, 1, 2, 3, 4]
    write_note(tmp_path / 'a.pth', tmp_path)
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'a.pth')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.pth', 'last_checkpoint']


def test_file_is_renamed_after_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda file: (calls.append('fsync'), fsync(file)))
    monkeypatch.setattr(os, 'replace', lambda *names: (calls.append('replace'), replace(*names)))
    write_checkpoint({}, tmp_path / 'a.pth')
    assert calls == ['fsync', 'replace', 'fsync']  # the file, its name, the folder


def test_full_disk_changes_nothing_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = save(tmp_path, 'iter_1.pth', 5).read_bytes()
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: Usage(10**9, 0, 12_345_678))
    with pytest.raises(DiskFullError) as error:
        write_checkpoint(dict(x=torch.zeros(20_000_000, dtype=torch.uint8)), tmp_path / 'iter_1.pth')
    assert error.value.errno == errno.ENOSPC
    assert 'it needs 20 MB, and 12 MB are free' in error.value.strerror
    assert 'iter_1.pth stays as it is' in error.value.strerror
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'full'), OSError(errno.EDQUOT, 'quota')])
def test_disk_filling_up_keeps_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError):
    before = save(tmp_path, 'iter_1.pth', 5).read_bytes()

    def full(_: dict, file: BinaryIO) -> None:
        file.write(b'a part')
        raise error
    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(DiskFullError, match='needs'):
        write_checkpoint({}, tmp_path / 'iter_1.pth')
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_size_equals_file_size(tmp_path: Path):
    content = dict(a=torch.zeros(1000, 30), b=[torch.zeros(7, dtype=torch.int64), dict(c=torch.zeros(())), 'text', 5])
    torch.save(content, tmp_path / 'a')
    assert size_of(content) == 1000 * 30 * 4 + 7 * 8 + 4
    assert 0 < (tmp_path / 'a').stat().st_size - size_of(content) < 4000


def test_noted_checkpoint_comes_first_after_later_ones(tmp_path: Path):
    names = []
    for name, age in (('epoch_1.pth', 50), ('iter_20.pth', 40), ('interrupted.pth', 30), ('epoch_3.pth', 20)):
        names.insert(0, save(tmp_path, name, age))
    assert saved_checkpoints(tmp_path) == names
    save(tmp_path, 'iter_20.pth', 40, noted=True)
    assert saved_checkpoints(tmp_path) == [tmp_path / name for name in
                                           ('epoch_3.pth', 'interrupted.pth', 'iter_20.pth', 'epoch_1.pth')]
    os.utime(tmp_path / 'last_checkpoint', ns=(0, 10**18))  # a user who goes back writes the note himself
    assert saved_checkpoints(tmp_path)[0] == tmp_path / 'iter_20.pth'


def test_checkpoints_of_the_same_time_are_ordered_by_iteration(tmp_path: Path):
    names = [save(tmp_path, f'iter_{iteration}.pth', 5) for iteration in (900, 1000, 80)]
    assert saved_checkpoints(tmp_path) == [names[1], names[0], names[2]]


def test_copied_folder_continues_from_the_noted_checkpoint(tmp_path: Path):
    run, copy = tmp_path / 'run', tmp_path / 'copy'
    run.mkdir()
    save(run, 'iter_500.pth', 9)
    save(run, 'iter_1000.pth', 5, noted=True)
    run.rename(copy)
    for age, name in enumerate(('iter_500.pth', 'last_checkpoint', 'iter_1000.pth')):  # in the order of the copying
        os.utime(copy / name, ns=(0, 10**18 - age))
    assert resume_path('auto', copy) == str(copy / 'iter_1000.pth')


def test_copy_of_a_run_does_not_continue_from_the_checkpoints_of_the_first_run(tmp_path: Path):
    run, copy = tmp_path / 'run', tmp_path / 'copy'
    run.mkdir()
    save(run, 'iter_500.pth', 9, noted=True)
    shutil.copytree(run, copy)
    save(run, 'iter_1000.pth', -9, noted=True)
    assert saved_checkpoints(copy) == [copy / 'iter_500.pth']


@pytest.mark.parametrize('content', [b'', b'\0' * 40, b'\xff\xfe'])
def test_damaged_note_is_ignored_and_other_folders_are_not_searched(tmp_path: Path, content: bytes):
    (tmp_path / 'run').mkdir()
    path = save(tmp_path / 'run', 'epoch_1.pth', 9)
    save(tmp_path, 'epoch_9.pth', 1)
    (tmp_path / 'run' / 'last_checkpoint').write_bytes(content)
    assert saved_checkpoints(tmp_path / 'run') == [path]


def test_checkpoints_in_other_folder_are_found_by_note(tmp_path: Path):
    (tmp_path / 'there').mkdir()
    save(tmp_path / 'there', 'epoch_1.pth', 9)
    path = save(tmp_path / 'there', 'epoch_2.pth', 5)
    assert saved_checkpoints(tmp_path) == []
    write_note(path, tmp_path)
    assert [path.name for path in saved_checkpoints(tmp_path)] == ['epoch_2.pth', 'epoch_1.pth']


@pytest.mark.parametrize('how', ['cut', 'empty', 'flip'])
def test_damaged_latest_checkpoint_is_skipped_with_warning(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture):
    good = save(tmp_path, 'iter_1.pth', 9)
    bad = spoil(save(tmp_path, 'iter_2.pth', 5, noted=True), how)
    assert find_corruption(bad) is not None
    assert resume_path('auto', tmp_path) == str(good)
    assert f'{bad} is damaged' in caplog.text
    assert str(good) in caplog.text


def test_run_with_only_damaged_checkpoints_is_refused(tmp_path: Path):
    spoil(save(tmp_path, 'iter_1.pth', 9), 'cut')
    with pytest.raises(CheckpointError, match=r'every checkpoint is damaged: .*iter_1.pth'):
        latest_intact(tmp_path, {})
    assert latest_intact(tmp_path / 'absent', {}) is None


@pytest.mark.parametrize('name', ['.iter_2.pth.0a1b.part', '.last_checkpoint.0a1b.part', '.training.0a1b.part.png'])
def test_partial_files_of_killed_run_are_removed(tmp_path: Path, name: str):
    save(tmp_path, 'iter_1.pth', 9)
    (tmp_path / name).write_bytes(b'x')
    assert remove_partial_files(tmp_path) == [tmp_path / name]
    assert [path.name for path in tmp_path.iterdir()] == ['iter_1.pth']
