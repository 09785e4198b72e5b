"""Image files of a folder are found once each and sorted; only regular files are read."""
import os
import socket
from pathlib import Path

import cv2
import pytest
from helpers.image_files import ramp, save

from mae_backbone.data.decode import read_image
from mae_backbone.data.files import IMAGE_SUFFIXES, ImageWalk, list_images, read_file


def test_images_of_all_depths_are_sorted_without_hidden_files(tmp_path):
    wanted = ['a.JPG', 'b/c/d.png', 'b/e.TiFF', 'z.webp', 'ünï/ç 日本.jpeg']
    for name in [*wanted, '.hidden.jpg', '._a.JPG', '.cache/f.jpg', 'b/notes.txt', 'jpg', 'g.jpg/h.csv']:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path))] == wanted
    assert list_images(tmp_path) == sorted(list_images(tmp_path), key=str)


def test_images_are_sorted_by_whole_paths(tmp_path):
    names = ['a.png', 'a/b.png', 'a-/c.png', 'a0.png', 'a/b/c.png', 'a/b-.png', 'B.png', 'a/b0/d.png', 'é.png',
             'z/é/a.png']
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    walk = ImageWalk(tmp_path)
    assert list(walk) == sorted(names)
    assert walk.folders.keys() == {'', 'a/', 'a-/', 'a/b/', 'a/b0/', 'z/', 'z/é/'}
    assert walk.folders['a/'] == (tmp_path / 'a').stat().st_mtime_ns
    assert [*ImageWalk(tmp_path, ('.npy',))] == []


@pytest.mark.parametrize('suffix', IMAGE_SUFFIXES)
def test_every_listed_suffix_can_be_decoded(tmp_path, suffix):
    path = tmp_path / f'image{suffix}'
    path.write_bytes(cv2.imencode(suffix, ramp()[..., 0] if suffix == '.pgm' else ramp())[1].tobytes())
    assert read_image(list_images(tmp_path)[0]).shape == (48, 64, 3)


def test_links_are_followed_once(tmp_path):
    save(tmp_path / 'elsewhere/a.png')
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere/loop').symlink_to(root)
    (root / 'broken.png').symlink_to(tmp_path / 'gone.png')
    assert list_images(root) == [root / 'broken.png', root / 'linked/a.png']


def make_special_files(root: Path) -> set[str]:
    """Files with names of images that are not regular files; returns their names. The device gives endless zeros."""
    os.mkfifo(root / 'pipe.png')
    (root / 'linked_pipe.jpg').symlink_to('pipe.png')
    (root / 'device.jpg').symlink_to('/dev/zero')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / 'socket.png'))
    return {'pipe.png', 'linked_pipe.jpg', 'device.jpg', 'socket.png'}


@pytest.mark.skipif(os.name != 'posix', reason='special files')
def test_special_files_are_skipped_and_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    root = Path('root')  # short: names of sockets are limited
    names = {save(root / f'{name}.png').name for name in ('a', 'n' * 251)}
    special = make_special_files(root)
    for loop in ('notes.txt', 'loop.png', 'loop'):
        (root / loop).symlink_to(loop)
    assert {path.name for path in list_images(root)} == {*names, 'loop.png'}
    assert all(name in caplog.text for name in special)
    assert 'pipe.png is a named pipe (FIFO)' in caplog.text


def test_images_of_formats_that_are_not_read_are_counted(tmp_path, caplog):
    save(tmp_path / 'a.png')
    for name in ('b.gif', 'c.GIF', 'd.heic', 'notes.txt', 'v.mp4', 'w.AVI'):
        (tmp_path / name).touch()
    assert len(list_images(tmp_path)) == 1
    assert f'not read in {tmp_path}: 1 .mp4, 1 .avi files; save their frames as images' in caplog.text
    assert f'not read in {tmp_path}: 2 .gif, 1 .heic files; convert them to PNG or JPEG' in caplog.text
    caplog.clear()
    list_images(tmp_path, ('.png', '.gif', '.heic', '.mp4', '.avi'))
    assert not caplog.text


@pytest.mark.skipif(os.name != 'posix', reason='special files')
def test_only_regular_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in make_special_files(Path('.')):
        with pytest.raises(OSError, match=rf'{name} is a .*expected a regular file'):
            read_file(name)
    Path('loop.png').symlink_to('loop.png')
    with pytest.raises(OSError, match=r'loop\.png'):
        read_file('loop.png')
    Path('linked.png').symlink_to(save(tmp_path / 'a.png'))
    assert read_file('linked.png') == (tmp_path / 'a.png').read_bytes()


def test_folder_without_images_raises_with_advice(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone does not exist: .*--data-root DIR'):
        list_images(tmp_path / 'gone')
    with pytest.raises(NotADirectoryError, match=r'a.png is a file, expected a folder: .*--data-root DIR'):
        list_images(save(tmp_path / 'a.png'))
    for name in ('1.txt', '2.TXT', '3.csv', 'README'):
        (tmp_path / f'texts/{name}').parent.mkdir(exist_ok=True)
        (tmp_path / f'texts/{name}').touch()
    with pytest.raises(ValueError, match=r'texts holds no images.*: 4 \(2 .txt, 1 .csv, 1 \(none\)\).*--data-root DIR'):
        list_images(tmp_path / 'texts')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r'empty holds no images.*: 0 \(none\)'):
        list_images(tmp_path / 'empty')


def test_unreadable_folder_is_named(tmp_path, monkeypatch):
    save(tmp_path / 'open/a.png')
    locked, scandir = tmp_path / 'locked', os.scandir
    locked.mkdir()

    def refuse(path):  # permissions do not bind root, who may run this
        if str(path) == str(locked):
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(PermissionError, match=r'locked may not be read .*chmod u\+rx'):
        list_images(tmp_path)
