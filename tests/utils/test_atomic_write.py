"""Files are written completely or not at all."""
import os
from pathlib import Path

import pytest

from mae_backbone.utils.atomic_write import atomic_path, partial_files, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_replaces_the_old_file(tmp_path: Path):
    write_text(tmp_path / 'a', 'one')
    write_text(tmp_path / 'a', 'zwei ü')
    assert names(tmp_path) == ['a']
    assert (tmp_path / 'a').read_text(encoding='utf-8') == 'zwei ü'


def test_text_has_the_same_bytes_on_every_system(tmp_path: Path):
    write_text(tmp_path / 'a', 'one\r\ntwo\n')
    assert (tmp_path / 'a').read_bytes() == b'one\r\ntwo\n'


@pytest.mark.parametrize('error', [OSError(28, 'No space left on device'), KeyboardInterrupt()])
def test_failed_write_keeps_the_old_file(tmp_path: Path, error: BaseException):
    write_bytes(tmp_path / 'training.png', b'old')

    def fail() -> None:
        with atomic_path(tmp_path / 'training.png') as temporary:
            temporary.write_bytes(b'n')
            assert partial_files(tmp_path) == partial_files(tmp_path, '*.png') == [temporary]
            raise error

    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ['training.png']
    assert (tmp_path / 'training.png').read_bytes() == b'old'
    if isinstance(error, OSError):  # of a full disk, whose error does not state the file
        assert error.filename == str(tmp_path / 'training.png')


def test_an_error_names_the_file_instead_of_the_temporary_one(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        write_bytes(tmp_path / 'missing' / 'plan.py', b'new')
    assert caught.value.filename == str(tmp_path / 'missing' / 'plan.py')


def test_failed_rename_leaves_no_partial_file(tmp_path: Path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError, match='folder'):
        write_bytes(tmp_path / 'folder', b'new')
    assert names(tmp_path) == ['folder']


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path):
    with atomic_path(tmp_path / 'a') as first, atomic_path(tmp_path / 'a') as second:
        first.write_text('first')
        second.write_text('second')
    assert names(tmp_path) == ['a']
    assert (tmp_path / 'a').read_text() == 'first'  # its block ended last


def test_temporary_name_keeps_the_suffix_on_request(tmp_path: Path):
    with atomic_path(tmp_path / 'a.npz', keep_suffix=True) as temporary:
        assert temporary.suffix == '.npz'
        temporary.write_bytes(b'')
    assert names(tmp_path) == ['a.npz']


@pytest.mark.skipif(os.name != 'posix', reason='255 bytes in a name')
def test_longest_name_is_written(tmp_path: Path):
    write_bytes(tmp_path / ('é' * 127), b'x', durable=True)
    assert names(tmp_path) == ['é' * 127]
