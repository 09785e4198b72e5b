"""classes.txt: names, colors, and what makes no sense."""
from pathlib import Path

import pytest

from mae_backbone.formats.classes_txt import read_classes
from mae_backbone.formats.dataset_spec import DataError


def written(folder: Path, content: bytes | str) -> Path:
    path = folder / 'classes.txt'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(('content', 'words'), [
    (b'', 'is empty'), (b'\n\n', 'is empty'), (b'a\n\nb\n', 'has empty lines'),
    (b'a\nb\na\n', 'names a more than once'), (b'\xff\xfe\x00', 'not text in UTF-8'),
    ('a #010203\nb\n', 'has colors for 1 of its 2 classes'), ('a\nb\n- #000000\n', 'has colors for 0 of its 2'),
    ('a #010203\nb #010203\n', 'the color #010203 belongs to more than one class'),
    ('a #010203\n- #010203\n', 'the color #010203 belongs to more than one class'),
    ('- #010203\n', 'has colors for 0 of its 0 classes')])
def test_lists_of_classes_that_make_no_sense(tmp_path: Path, content: bytes | str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_classes(written(tmp_path, content))


def test_lists_of_classes_from_any_editor(tmp_path: Path) -> None:
    classes = read_classes(written(tmp_path, '\ufeffsky \r\nStraße\r\n\r\n'))
    assert classes == (['sky', 'Straße'], [], [])


def test_colors_follow_the_names(tmp_path: Path) -> None:
    classes = read_classes(written(tmp_path, 'traffic light  #FFaa00\n- #000000\nC# code\t#010203\n-  #0a0B0c\n'))
    assert classes.names == ['traffic light', 'C# code']
    assert classes.colors == [(255, 170, 0), (1, 2, 3)]
    assert classes.ignored == [(0, 0, 0), (10, 11, 12)]


@pytest.mark.parametrize('line', ['road #12345', 'road#123456', 'road #12345g', '#123456', 'road 1 2 3', '-'])
def test_text_that_is_not_a_color_is_part_of_the_name(tmp_path: Path, line: str) -> None:
    assert read_classes(written(tmp_path, line)) == ([line], [], [])
