"""All kinds of sources give the same images in a fixed order."""
import os
import pickle
import time
from pathlib import Path

import pytest
from helpers.image_files import save
from helpers.tar_files import tar

from mae_backbone.data import index, sources
from mae_backbone.data.files import list_images
from mae_backbone.data.sources import open_source


@pytest.fixture
def images(tmp_path) -> Path:
    for name in ('b/c.png', 'a.jpg', 'ünï 日本.png'):
        save(tmp_path / 'images' / name)
    return tmp_path / 'images'


def test_folder_gives_its_images_in_order(images):
    source = open_source(images)
    files = list_images(images)
    assert len(source) == 3
    for one in (source, pickle.loads(pickle.dumps(source))):
        assert [one.name(i) for i in range(3)] == [str(file) for file in files]
        assert [one.read(i) for i in range(3)] == [file.read_bytes() for file in files]
    files[1].unlink()
    with pytest.raises(FileNotFoundError, match=r'c\.png'):
        source.read(1)


def test_list_gives_the_files_of_its_lines(images, tmp_path):
    lines = ['images/ünï 日本.png', '', str(images / 'a.jpg'), '  ', 'images/b/../b/c.png', 'images/a.jpg']
    path = tmp_path / 'train.txt'
    for text in ('\n'.join(lines), '\ufeff' + '\r\n'.join(lines) + '\r\n'):
        path.write_bytes(text.encode())
        source = open_source(str(path))
        wanted = [images / 'ünï 日本.png', images / 'a.jpg', images / 'b/c.png', images / 'a.jpg']
        for one in (source, pickle.loads(pickle.dumps(source))):
            assert [one.read(i) for i in range(len(one))] == [file.read_bytes() for file in wanted]
            assert one.name(1) == str(images / 'a.jpg')


def test_missing_file_of_a_list_is_named_with_its_line(images, tmp_path, monkeypatch):
    path = tmp_path / 'train.txt'
    path.write_text('images/a.jpg\n\nimages/gone.jpg\nimages/a.jpg\n')
    says = r'gone\.jpg does not exist: line 3 of .*train\.txt'
    with pytest.raises(FileNotFoundError, match=says):
        open_source(path)
    monkeypatch.setattr(sources, '_CHECKED_LINES', 2)  # a long list is not looked through
    source = open_source(path)
    with pytest.raises(FileNotFoundError, match=says):
        source.read(1)
    path.write_bytes(b'images/a.jpg\nimages/a\0.jpg\nimages/a.jpg')
    with pytest.raises(FileNotFoundError, match=r'line 2 of'):
        open_source(path).read(1)


def test_shards_are_a_folder_a_file_or_several(tmp_path):
    for name in 'ab':
        tar(tmp_path / f'{name}.tar', {'x.jpg': name.encode(), 'x.npy': b'array'})
    for root, wanted in ((tmp_path, [b'a', b'b']), (str(tmp_path / 'b.tar'), [b'b']),
                         ([tmp_path / 'b.tar', str(tmp_path / 'a.tar')], [b'b', b'a'])):
        source = open_source(root)
        assert [source.read(i) for i in range(len(source))] == wanted
    assert open_source(tmp_path, suffixes=('.npy',)).read(0) == b'array'


def test_other_data_root_raises_with_advice(images, tmp_path):
    (tmp_path / 'a.csv').touch()
    (tmp_path / 'empty.txt').write_text('\n \n')
    for root, error, says in (
            (tmp_path / 'gone', FileNotFoundError, 'does not exist: pass a folder'),
            (tmp_path / 'a.csv', NotADirectoryError, r'expected a folder, a list of files \(.txt\) or a shard'),
            (tmp_path / 'empty.txt', ValueError, 'names no files: expected one path per line'),
            ([images], ValueError, 'expected paths of tar files'), ([], ValueError, 'nothing in it, expected paths'),
            (images / 'b/../b', None, None)):
        if error is None:
            assert len(open_source(root)) == 1
            continue
        with pytest.raises(error, match=says):
            open_source(root)
    with pytest.raises(ValueError, match=r'holds no images; .*\(2 .png, 1 .jpg\)\. Images end in .npy'):
        open_source(images, suffixes=('.npy',))


def test_large_folder_is_listed_once_until_it_changes(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(index, 'KEEP_FROM', 1)
    for folder in (images, images / 'b'):
        os.utime(folder, ns=(0, time.time_ns() - 10**10))
    first = open_source(images)
    with monkeypatch.context() as context:
        context.setattr(sources, 'ImageWalk', lambda *_: pytest.fail('listed again'))
        again = pickle.loads(pickle.dumps(open_source(images)))
        assert [again.name(i) for i in range(3)] == [first.name(i) for i in range(3)]
        with pytest.raises(pytest.fail.Exception, match='listed again'):
            open_source(images, suffixes=('.png',))  # is another list
    save(images / 'b/d.png')
    assert len(open_source(images)) == 4
    assert f'{images / "b"} has changed: building it again' in capsys.readouterr().out.replace('b/ ', 'b ')


def test_long_search_prints_progress(images, monkeypatch, capsys):
    monkeypatch.setattr(index, '_LONG', -1)
    open_source(images)
    assert f'looking for images in {images}: 0 so far' in capsys.readouterr().out
    monkeypatch.setenv('RANK', '1')  # once in a distributed run
    open_source(images)
    assert capsys.readouterr().out == ''
