"""Labels that no layout reads are described with what was expected."""
from pathlib import Path

import pytest
from helpers.own_sets import write_classes, write_images

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.import_data import import_data
from mae_backbone.formats.unread_labels import unread_labels


@pytest.mark.parametrize(('text', 'words'), [
    ('id,label\n0000,red\n', 'labels.csv was not used: its columns are id, label; expected filename and label for'),
    ('filename,red,blue\n0000.png,1,2\n', 'its columns are filename, red, blue; expected'),
    ('filename,red,blue\n0000.png,1,1\n0001.png,0,1\n', 'several classes of an image (multi-label), which is not'),
    ('', 'its columns are empty; expected'),
    ('filename,label\n0000.png,red\n', 'labels.csv has a class of each image, and no boxes'),
])
def test_columns_are_named_with_the_expected_ones(tmp_path: Path, text: str, words: str) -> None:
    write_images(tmp_path, 2)
    (tmp_path / 'labels.csv').write_text(text, encoding='utf-8')
    line, = unread_labels(tmp_path)
    assert words in line


@pytest.mark.parametrize('encoding', ['utf-16', 'utf-16-be', 'latin-1'])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / 'labels.csv').write_text('filename,größe\n0000.png,red\n', encoding=encoding)
    assert unread_labels(tmp_path) == [
        'labels.csv was not used: it is not text in UTF-8. Save it again as CSV in UTF-8']


def test_json_and_xml_files_are_named(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f'{index}.json').write_text('{}')
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels/a.xml').write_text('<a/>')
    lines = unread_labels(tmp_path)
    assert [line.split(' were')[0] for line in lines] == ['JSON files', 'XML files']
    assert '(labels/a.xml)' in lines[1]


@pytest.mark.parametrize(('content', 'says'), [
    (b'cat 0.5 0.5 0.1 0.1\n', 'expected lines of YOLO: the number of a class, and x, y, width and height'),
    ('0 0.5 0.5 0.1 0.1\n'.encode('utf-16'), 'a.txt is not text in UTF-8: save it again in UTF-8'),
    (b'', 'a.txt is empty: copy or export it again')])
@pytest.mark.parametrize('folder', ['labels', 'labels/train', 'train/labels'])
def test_text_files_of_labels_are_named(tmp_path: Path, folder: str, content: bytes, says: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / 'a.txt').write_bytes(content)
    (tmp_path / 'readme.txt').write_text('Photographs.')
    line, = unread_labels(tmp_path)
    assert line.startswith(f'TXT files were not used ({folder}/a.txt): {says}')


@pytest.mark.parametrize('kind', ['json', 'xml'])
def test_files_that_are_not_utf_8_are_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / f'a.{kind}').write_bytes('<annotation/>'.encode('utf-16'))
    assert unread_labels(tmp_path) == [f'{kind.upper()} files were not used (a.{kind}): a.{kind} is not text in '
                                       'UTF-8: save it again in UTF-8']


def test_class_folders_that_are_no_classes_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path / 'single', classes=('cat',))
    line, = unread_labels(tmp_path / 'single')
    assert line.startswith('train/cat was not used as a class: it is the only class folder')
    for name in ('train', 'cat'):
        write_images(tmp_path / 'split' / name, 2)
    line, = unread_labels(tmp_path / 'split')
    assert 'because train is the name of a split: rename it if it is a class' in line


def test_images_without_labels_are_not_warned_of(tmp_path: Path) -> None:
    for name in ('images', 'train/images', 'val/images', 'more'):
        write_images(tmp_path / name, 1)
    assert unread_labels(tmp_path) == []


@pytest.mark.parametrize('target', ['coco', 'folders'])
def test_an_import_names_the_columns_and_the_expected_ones(tmp_path: Path, target: str) -> None:
    write_images(tmp_path / 'data/images', 2)
    (tmp_path / 'data/labels.csv').write_text('id,label\n0000,red\n', encoding='utf-8')
    with pytest.raises(DataError, match=r'labels.csv was not used: its columns are id, label; expected filename'):
        import_data(tmp_path / 'data', tmp_path / 'out', target)
