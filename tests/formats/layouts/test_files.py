"""Label files from anywhere: limits, and messages with the line of a mistake."""
import os
from pathlib import Path

import pytest

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.files import peek
from mae_backbone.formats.layouts.files import number, read_json, read_text, read_xml, read_yaml
from mae_backbone.formats.layouts.image_index import inside
from mae_backbone.formats.layouts.registry import find_layout

READERS = (read_text, read_json, read_xml, read_yaml)


def test_xml_with_entities_is_refused_in_any_encoding(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
    for encoding in ('utf-8', 'utf-16'):
        (tmp_path / 'a.xml').write_text(bomb, encoding=encoding)
        with pytest.raises(DataError, match=r'a\.xml, line 1: the file declares a document type'):
            read_xml(tmp_path / 'a.xml')
    (tmp_path / 'a.xml').write_text('<annotation>&b;</annotation>')
    with pytest.raises(DataError, match='line 1: not XML'):
        read_xml(tmp_path / 'a.xml')


def test_xml_of_great_depth_is_read(tmp_path: Path) -> None:
    (tmp_path / 'a.xml').write_text('<a>' * 100_000 + '</a>' * 100_000)
    assert read_xml(tmp_path / 'a.xml').tag == 'a'


@pytest.mark.parametrize('read', READERS)
def test_pipes_and_large_files_are_not_read(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / 'pipe.xml')
    with pytest.raises(DataError, match=r'pipe\.xml cannot be read .*named pipe'):
        read(tmp_path / 'pipe.xml')
    assert peek(tmp_path / 'pipe.xml') == ''
    with open(tmp_path / 'large', 'wb') as file:
        file.truncate(2**27)
    with pytest.raises(DataError, match='has 134 MB, expected at most'):
        read(tmp_path / 'large')
    with pytest.raises(DataError, match='cannot be read'):
        read(tmp_path / 'nowhere')


def test_mistakes_are_named_with_their_line(tmp_path: Path) -> None:
    for read, text, message in ((read_json, '{\n"a": }', 'line 2: not JSON'), (read_yaml, 'a: [\n', 'not YAML'),
                                (read_xml, '<a>\n<b></a>', 'line 2: not XML'),
                                (read_json, '[' * 100_000, 'nested too deeply|not JSON')):
        (tmp_path / 'a').write_text(text)
        with pytest.raises(DataError, match=message):
            read(tmp_path / 'a')
    (tmp_path / 'a').write_bytes(b'\xff\xfe1')
    with pytest.raises(DataError, match='is not text in UTF-8'):
        read_text(tmp_path / 'a')


def test_yaml_builds_no_objects(tmp_path: Path) -> None:
    (tmp_path / 'a').write_text('!!python/object/apply:os.mkdir [made]')
    with pytest.raises(DataError, match='not YAML'):
        read_yaml(tmp_path / 'a')
    assert not Path('made').exists()


@pytest.mark.parametrize('text', ['nan', 'inf', '1e99', 'x', '', None, []])
def test_numbers_are_finite(text: object) -> None:
    with pytest.raises(DataError, match=r'a\.txt, line 3: width is .*, expected a number in pixels'):
        number(text, 'a.txt, line 3', 'width')


def test_paths_outside_of_the_root_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inside(tmp_path, 'a/../b', 'x') == str(tmp_path / 'b')
    for path in ('../b', '/etc/passwd', f'{tmp_path}2'):
        with pytest.raises(DataError, match='outside of the data root'):
            inside(tmp_path, path, 'x')
    monkeypatch.setenv('MAE_BACKBONE_ALLOW_OUTSIDE', '1')
    assert inside(tmp_path, '/etc/passwd', 'x') == '/etc/passwd'


def test_pipes_named_like_label_files_do_not_block_the_recognition(tmp_path: Path) -> None:
    for name in ('a.xml', 'a.json', 'a.txt', 'data.yaml', 'a.csv'):
        os.mkfifo(tmp_path / name)
    assert find_layout(tmp_path) is None
