"""Members of tar files are read in place."""
import multiprocessing
import os
import pickle
import tarfile

import pytest
from helpers.tar_files import FILES, tar

from mae_backbone.data import index, shards
from mae_backbone.data.shards import ShardSource, is_shards, members, shards_in

IMAGES = [name for name in FILES if name[-3:] in ('jpg', 'PEG', 'png') and name != '._c.png']




@pytest.mark.parametrize('style', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=['pax', 'gnu'])
def test_images_of_all_shards_are_read_in_order(tmp_path, style):
    paths = [tar(tmp_path / f'{i}.tar', style=style) for i in range(3)]
    source = ShardSource.open(shards_in(tmp_path))
    assert len(source) == 3 * len(IMAGES)
    for one in (source, pickle.loads(pickle.dumps(source))):
        for i in reversed(range(len(source))):
            shard, name = paths[i // len(IMAGES)], IMAGES[i % len(IMAGES)]
            assert one.name(i) == f'{shard}/{name}'
            assert one.read(i) == FILES[name]


def test_suffixes_select_the_members(tmp_path):
    source = ShardSource.open([tar(tmp_path / 'a.tar')], ('.cls', '.txt'))
    assert [source.read(i) for i in range(len(source))] == [b'0', b'x']
    with pytest.raises(ValueError, match=r'a\.tar: no images, which end in \.npy'):
        ShardSource.open([tmp_path / 'a.tar'], ['.npy'])


def test_shard_without_members_is_no_fault(tmp_path):
    """Packing writes it if no image of a shard can be read. Python 3.10 raised OSError."""
    tarfile.open(tmp_path / 'empty.tar', 'w').close()
    assert not [*members(tmp_path / 'empty.tar')]


def test_links_devices_and_folders_in_a_tar_are_ignored(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w') as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo('x.jpg')
            info.type, info.linkname = kind, '/etc/hostname'
            archive.addfile(info)
    assert list(members(tmp_path / 'a.tar')) == []


def test_reading_a_tar_writes_no_file(tmp_path):
    (tmp_path / 'in').mkdir()
    source = ShardSource.open([tar(tmp_path / 'in/a.tar')])
    assert [source.read(i) for i in range(len(source))]
    assert [path.name for path in tmp_path.rglob('*')] == ['in', 'a.tar']


@pytest.mark.parametrize('cut', [100, 512, 1024 + 512 + 3, 4000, -10_500, -10_241])
def test_truncated_shard_raises(tmp_path, cut):
    path = tar(tmp_path / 'a.tar', {f'{i}.jpg': b'x' * (900 + i) for i in range(9)})
    whole = path.read_bytes()
    end = len(whole.rstrip(b'\0'))
    path.write_bytes(whole[:cut if cut > 0 else end + cut + 10_240])
    with pytest.raises(ValueError, match=r'a\.tar is .*: copy it again'):
        list(members(path))


def test_other_content_raises(tmp_path):
    path = tar(tmp_path / 'a.tar', {'0.jpg': b'x' * 900, '1.jpg': b'y' * 900, '2.jpg': b'z' * 900})
    data = path.read_bytes()
    at = data.index(b'1.jpg')
    for broken in (b'no tar' * 200, b'', b'\x1f\x8b' + data, data[:at] + b'#' * 200 + data[at + 200:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r'a\.tar is .*: copy it again, or pack the images again'):
            list(members(path))
    with pytest.raises(FileNotFoundError, match=r'gone\.tar is not a file, expected a shard'):
        ShardSource.open([tmp_path / 'gone.tar'])


def test_shard_that_changes_while_it_is_read_raises(tmp_path):
    path = tar(tmp_path / 'a.tar')
    opened, fresh = (ShardSource.open([path]) for _ in range(2))
    assert opened.read(0) == b'first'
    os.truncate(path, 1000)
    with pytest.raises(OSError, match=r'a\.tar/n02/b\.JPEG: the shard was truncated'):
        opened.read(1)
    with pytest.raises(OSError, match=r'a\.tar has changed after it was indexed'):
        fresh.read(0)


def test_number_of_open_files_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, '_MAX_OPEN_FILES', 2)
    for i in range(5):
        tar(tmp_path / f'{i}.tar', {'a.jpg': bytes([i])})
    source = ShardSource.open(shards_in(tmp_path))
    before = len(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else None
    for i in [0, 1, 0, 2, 3, 4, 0, 0, 1]:
        assert source.read(i) == bytes([i])
        assert len(source._files) <= 2
    if before is not None:
        assert len(os.listdir('/proc/self/fd')) <= before + 2


def _read_all(source: ShardSource, rounds: int) -> None:
    for _ in range(rounds):
        for i in range(len(source)):
            assert source.read(i) == bytes([i]) * 5000


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_processes_read_independently(tmp_path, method):
    source = ShardSource.open([tar(tmp_path / 'a.tar', {f'{i}.jpg': bytes([i]) * 5000 for i in range(50)})])
    source.read(0)  # the descriptor is there before the fork
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=_read_all, args=(source, 20)) for _ in range(2)]
    for process in processes:
        process.start()
    _read_all(source, 20)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_index_is_cached_until_a_shard_changes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index, 'KEEP_FROM', 1)
    path = tar(tmp_path / 'a.tar')
    first = ShardSource.open([path])
    with monkeypatch.context() as context:
        context.setattr(shards, 'members', lambda _: pytest.fail('read again'))
        again = ShardSource.open([path])
        assert [again.read(i) for i in range(len(again))] == [first.read(i) for i in range(len(first))]
        assert len(pickle.dumps(again)) < 1000
    tar(path, {'other.jpg': b'new'})
    assert ShardSource.open([path]).read(0) == b'new'
    assert 'a.tar has changed: building it again' in capsys.readouterr().out


def test_folder_with_images_or_folders_is_not_shards(tmp_path):
    assert not is_shards(tmp_path)
    tar(tmp_path / 'a.tar')
    (tmp_path / 'bad_images.txt').touch()
    assert is_shards(tmp_path)
    (tmp_path / 'x.jpg').touch()
    assert not is_shards(tmp_path)
