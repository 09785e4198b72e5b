import os
from pathlib import Path

import pytest
from helpers.small_sets import write_image

from mae_backbone.formats.files import decode_sample, evenly_spaced, missing_files, paths_outside


def test_missing_files_are_found(tmp_path: Path) -> None:
    (tmp_path / 'in').mkdir()
    for name in ('a.jpg', 'in/b.jpg'):
        (tmp_path / name).write_bytes(b'')
    paths = [str(tmp_path / name) for name in ('a.jpg', 'in/b.jpg', 'in/../a.jpg', 'in/c.jpg', 'out/a.jpg', 'a\0.jpg')]
    assert missing_files(paths) == paths[3:]


def test_evenly_spaced_items_keep_their_order_and_span_the_list() -> None:
    assert evenly_spaced(list(range(3)), 5) == [0, 1, 2]
    drawn = evenly_spaced(list(range(1000)), 50)
    assert drawn == list(range(0, 1000, 20))


def test_evenly_spaced_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f'{i}.png') for i in range(10)]
    for i, path in enumerate(paths):
        write_image(Path(path), (30 + i, 20))
    monkeypatch.setattr('mae_backbone.formats.files.NUM_DECODED', 5)
    assert decode_sample('train', paths) == {path: (30 + i, 20) for i, path in enumerate(paths) if i % 2 == 0}


def test_paths_outside_of_all_folders_are_found(tmp_path: Path) -> None:
    root = str(tmp_path / 'root')
    inside = [f'{root}/a.jpg', f'{root}/x/../b.jpg', f'{root}/x/y.jpg']
    outside = [f'{root}/../a.jpg', '/etc/passwd', f'{root}-2/a.jpg']
    assert paths_outside(inside + outside, [root, f'{root}/x/']) == [str(tmp_path / 'a.jpg'), *outside[1:]]
    assert paths_outside(outside, ['', '/']) == []
    assert paths_outside(['a/../../x.jpg', 'a/x.jpg'], ['a']) == [os.path.abspath('../x.jpg')]
