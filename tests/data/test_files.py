"""Which images a folder holds: all, each once, sorted; and what is said where there are none."""
import os

import cv2
import pytest
from helpers.image_files import ramp, save

from mae_backbone.data.decode import read_image
from mae_backbone.data.files import IMAGE_SUFFIXES, ImageWalk, list_images


def test_lists_images_of_all_depths_sorted_and_without_hidden_or_foreign_files(tmp_path):
    wanted = ['a.JPG', 'b/c/d.png', 'b/e.TiFF', 'z.webp', 'ünï/ç 日本.jpeg']
    for name in [*wanted, '.hidden.jpg', '._a.JPG', '.cache/f.jpg', 'b/notes.txt', 'jpg', 'g.jpg/h.csv']:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(str(tmp_path))] == wanted
    assert list_images(tmp_path) == sorted(list_images(tmp_path), key=str)


def test_the_order_is_that_of_whole_paths(tmp_path):
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
def test_every_suffix_of_the_list_is_one_that_is_read(tmp_path, suffix):
    path = tmp_path / f'image{suffix}'
    path.write_bytes(cv2.imencode(suffix, ramp()[..., 0] if suffix == '.pgm' else ramp())[1].tobytes())
    assert read_image(list_images(tmp_path)[0]).shape == (48, 64, 3)


def test_links_are_followed_once_and_pipes_are_no_images(tmp_path):
    save(tmp_path / 'elsewhere/a.png')
    root = tmp_path / 'root'
    root.mkdir()
    (root / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere/loop').symlink_to(root)
    (root / 'broken.png').symlink_to(tmp_path / 'gone.png')
    os.mkfifo(root / 'pipe.png')
    assert list_images(root) == [root / 'broken.png', root / 'linked/a.png']


def test_what_is_no_folder_of_images_is_refused_with_advice(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'gone does not exist: .*--data-root DIR'):
        list_images(tmp_path / 'gone')
    with pytest.raises(NotADirectoryError, match=r'a.png is a file, wanted a folder: .*--data-root DIR'):
        list_images(save(tmp_path / 'a.png'))
    for name in ('1.txt', '2.TXT', '3.csv', 'README'):
        (tmp_path / f'texts/{name}').parent.mkdir(exist_ok=True)
        (tmp_path / f'texts/{name}').touch()
    with pytest.raises(ValueError, match=r'texts holds no images.*: 4 \(2 .txt, 1 .csv, 1 \(none\)\).*--data-root DIR'):
        list_images(tmp_path / 'texts')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match=r'empty holds no images.*: 0 \(none at all\)'):
        list_images(tmp_path / 'empty')


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
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
