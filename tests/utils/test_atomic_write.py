"""Files written whole or not at all."""
from pathlib import Path

import pytest

from mae_backbone.utils.atomic_write import write_bytes, write_text


def test_a_text_is_replaced_whole(tmp_path):
    write_text(tmp_path / 'a', 'one')
    write_text(tmp_path / 'a', 'zwei ü')
    assert [file.name for file in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a').read_text(encoding='utf-8') == 'zwei ü'


def test_a_text_has_the_same_bytes_on_every_system(tmp_path: Path):
    write_text(tmp_path / 'a', 'one\r\ntwo\n')
    assert (tmp_path / 'a').read_bytes() == b'one\r\ntwo\n'


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_bytes(tmp_path / 'training.png', b'old')

    def full(self: Path, content: bytes) -> None:
        with open(self, 'wb') as file:
            file.write(content[:1])
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(OSError, match='No space left'):
        write_bytes(tmp_path / 'training.png', b'new')
    assert [path.name for path in tmp_path.iterdir()] == ['training.png']
    assert (tmp_path / 'training.png').read_bytes() == b'old'


def test_a_file_that_cannot_be_renamed_leaves_no_part(tmp_path: Path):
    (tmp_path / 'folder').mkdir()
    with pytest.raises(OSError, match='folder'):
        write_bytes(tmp_path / 'folder', b'new')
    assert [path.name for path in tmp_path.iterdir()] == ['folder']
