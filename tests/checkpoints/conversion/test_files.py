"""Results are written completely or not at all, and nothing is overwritten unasked."""
import errno
from pathlib import Path

import pytest
import torch
from helpers import stored_models
from safetensors import SafetensorError

from mae_backbone.checkpoints.conversion import convert as module
from mae_backbone.checkpoints.conversion.convert import TARGETS, convert
from mae_backbone.checkpoints.conversion.files import atomic_folder
from mae_backbone.checkpoints.run_files import DiskFullError


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored_models.mae(tmp_path_factory.mktemp('source') / 'mae.pth')


@pytest.mark.parametrize('target', sorted(TARGETS))
def test_results_are_replaced_only_by_force(source: Path, tmp_path: Path, target: str):
    suffixes = TARGETS[target].suffixes
    out = tmp_path / f'out{suffixes[0] if suffixes else ""}'
    convert(source, out, target)
    with pytest.raises(FileExistsError, match='exists: choose another name, or pass --force to replace it'):
        convert(source, out, target)
    convert(source, out, target, force=True)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_force_keeps_a_folder_with_other_files(source: Path, tmp_path: Path):
    out = tmp_path / 'photos'
    out.mkdir()
    (out / 'holiday.jpg').write_text('irreplaceable')
    with pytest.raises(FileExistsError, match='holds other files than a conversion'):
        convert(source, out, 'hf', force=True)
    assert (out / 'holiday.jpg').read_text() == 'irreplaceable'


def test_an_empty_folder_is_filled(source: Path, tmp_path: Path):
    (tmp_path / 'out').mkdir()
    convert(source, tmp_path / 'out', 'timm')
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'README.md', 'config.json', 'model.safetensors'}


@pytest.mark.parametrize(('out', 'target', 'message'), [
    ('out.bin', 'mae', r'reads files that end in .pth or .pt: name OUT so'),
    ('out.safetensors', 'timm', 'is named like a file, but this target is a folder'),
    ('nowhere/out.pth', 'mae', 'the folder .*nowhere does not exist: create it'),
    ('folder.pth', 'mae', 'is a folder, but this target is one file: name a file in it'),
    ('file', 'timm', 'is a file, but this target is a folder'),
])
def test_names_that_cannot_be_written(source: Path, tmp_path: Path, out: str, target: str, message: str):
    (tmp_path / 'folder.pth').mkdir()
    (tmp_path / 'file').write_text('')
    with pytest.raises((OSError, ValueError), match=message):
        convert(source, tmp_path / out, target, force=True)


def test_the_source_is_never_replaced(tmp_path: Path):
    source = stored_models.mae(tmp_path / 'mae.pth')
    content = source.read_bytes()
    (tmp_path / 'link.pth').symlink_to(source)
    for out in ('mae.pth', 'link.pth'):
        with pytest.raises(ValueError, match='is IN and OUT: name another OUT'):
            convert(source, tmp_path / out, 'mae', force=True)
    assert source.read_bytes() == content


def test_a_full_disk_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    earlier = convert(source, tmp_path / 'out', 'timm').path
    before = {path.name: path.read_bytes() for path in earlier.iterdir()}

    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr('mae_backbone.checkpoints.conversion.to_safetensors.save_tensors', write)
    with pytest.raises(DiskFullError, match=r'no room for .*out: it needs .* MB.*Nothing was written'):
        convert(source, tmp_path / 'out', 'timm', force=True)
    assert [path.name for path in tmp_path.iterdir()] == ['out']
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == before


def test_a_limit_of_the_size_of_files_is_reported_as_a_full_disk(source: Path, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch):
    """safetensors raises an error that is no OSError."""
    def write(*_: object) -> None:
        raise SafetensorError(f'Error while serializing: I/O error: File too large (os error {errno.EFBIG})')
    monkeypatch.setattr('safetensors.torch.save_file', write)
    with pytest.raises(DiskFullError, match='no room for'):
        convert(source, tmp_path / 'out', 'timm')


def test_force_replaces_the_target_of_a_link(source: Path, tmp_path: Path):
    convert(source, tmp_path / 'out', 'timm')
    (tmp_path / 'link').symlink_to('out')
    (tmp_path / 'out' / 'model.safetensors').unlink()
    convert(source, tmp_path / 'link', 'timm', force=True)
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'out' / 'model.safetensors').is_file()
    assert {path.name for path in tmp_path.iterdir()} == {'out', 'link'}


def test_too_little_space_is_said_before_the_work(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr('shutil.disk_usage', lambda _: usage)
    monkeypatch.setattr(module, '_write', lambda *_, **__: pytest.fail('started to write'))
    with pytest.raises(DiskFullError, match=r'0\.0 MB are free'):
        convert(source, tmp_path / 'out.pth', 'mae')


def test_a_folder_is_renamed_once_it_is_complete(tmp_path: Path):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'old').write_text('')

    def fail() -> None:
        with atomic_folder(out) as folder:
            (folder / 'new').write_text('')
            assert [path.name for path in out.iterdir()] == ['old']
            raise RuntimeError('half way')
    with pytest.raises(RuntimeError, match='half way'):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ['out']
    with atomic_folder(out) as folder:
        (folder / 'new').write_text('')
    assert [path.name for path in out.iterdir()] == ['new']
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_files_hold_no_code(source: Path, tmp_path: Path):
    for target in ('mae', 'mmpretrain'):
        path = convert(source, tmp_path / f'{target}.pth', target).path
        assert torch.load(path, weights_only=True).keys() & {'model', 'state_dict'}
