"""Files with the classes of label maps: all kinds give the same classes, and faults are named."""
from pathlib import Path

import numpy as np
import pytest
from helpers.own_sets import save, write_maps

from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.formats.layouts.class_files import has_other_class_file, read_class_files
from mae_backbone.formats.layouts.map_pairs import find_map_pairs
from mae_backbone.planning.find_data import find_data

NAMES, COLORS = ['sky', 'road', 'traffic sign'], [(0, 0, 0), (128, 64, 0), (0, 0, 255)]
FILES = {
    'classes.txt': 'sky #000000\nroad #804000\ntraffic sign #0000ff\n',
    'labelmap.txt': '# label:color_rgb:parts:actions\nsky:0,0,0::\nroad:128,64,0::\ntraffic sign:0,0,255::\n',
    'label_colors.txt': '0 0 0\tsky\n128 64 0\t\troad\n0 0 255 traffic sign\n',
    'class_dict.csv': 'name,r,g,b\nsky,0,0,0\nroad,128,64,0\ntraffic sign,0,0,255\n',
    'class_dict_seg.csv': 'name, r, g, b\nsky, 0, 0, 0\nroad, 128, 64, 0\ntraffic sign, 0, 0, 255\n',
    'train/_classes.csv': 'Pixel Value, Class\n0, sky\n1, road\n2, traffic sign',
}


@pytest.mark.parametrize('name', FILES)
def test_all_files_name_the_same_classes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(FILES[name])
    found = read_class_files(tmp_path)
    assert (found.names, found.colors) == (NAMES, [] if name == 'train/_classes.csv' else COLORS)
    assert has_other_class_file(tmp_path) == (name != 'classes.txt')


@pytest.mark.parametrize('name', ['class_dict.csv', 'train/_classes.csv'])
@pytest.mark.parametrize('folders', [('images/training', 'annotations/training'), ('photos', 'truth')])
def test_names_and_colors_reach_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
                                         folders: tuple[str, str]) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    root = write_maps(tmp_path / 'data', train=6, val=4)
    (root / 'classes.txt').unlink()
    if folders[0] == 'photos':
        for old, new in (('images', 'photos'), ('annotations', 'truth')):
            (root / old).rename(root / new)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text(FILES[name])
    data = find_data(root)
    assert (data.task, data.classes) == ('segmentation', NAMES)


def test_classes_of_the_folder_of_a_project_reach_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    write_maps(tmp_path / 'project/data', train=6, val=4)
    assert find_data(tmp_path / 'project').classes == ['sky', 'road', 'sign']


def test_maps_of_colors_are_read_by_the_file(tmp_path: Path) -> None:
    for index in range(4):
        labels = np.zeros((8, 12), int)
        labels[:, 4 + index:] = 1
        save(tmp_path / f'images/{index}.png', np.full((8, 12, 3), 40 * index, np.uint8))
        save(tmp_path / f'masks/{index}.png', np.array(COLORS, np.uint8)[labels][..., ::-1])
    (tmp_path / 'class_dict.csv').write_text(FILES['class_dict.csv'])
    found = find_map_pairs(tmp_path)
    assert found is not None
    assert (found.names, found.colors) == (NAMES, COLORS)


@pytest.mark.parametrize(('name', 'text', 'message'), [
    ('class_dict.csv', 'name,r,g,b\nsky,0,0,300\n', r'line 2: the color is 0, 0, 300'),
    ('class_dict.csv', 'name,r,g,b\nsky,0,0\n', r'line 2 has 3 values, expected 4'),
    ('class_dict.csv', 'name,r,g,b\nsky,0,0,0\nsky,0,0,1\n', 'names sky more than once'),
    ('class_dict.csv', 'name,r,g,b\nsky,0,0,0\nroad,0,0,0\n', 'the color #000000 belongs to more than one class'),
    ('_classes.csv', 'Pixel Value, Class\n0, sky\n38, road\n', 'has the pixel values 0, 38, expected 0, 1, 2'),
    ('labelmap.txt', 'sky\n', "line 1: 'sky', expected name:red,green,blue")])
def test_faults_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_files(tmp_path)


def test_different_files_of_splits_are_refused(tmp_path: Path) -> None:
    for split, last in (('train', 'road'), ('valid', 'tree')):
        (tmp_path / split).mkdir()
        (tmp_path / split / '_classes.csv').write_text(f'Pixel Value, Class\n0, sky\n1, {last}\n')
    with pytest.raises(DataError, match=r'have different classes \(sky, road; sky, tree\)'):
        read_class_files(tmp_path)


@pytest.mark.parametrize(('name', 'text'), [
    ('_classes.csv', 'filename, cat, dog\na.jpg, 1, 0\n'), ('class_dict.csv', 'class_index,class,height\n0,cat,224\n'),
    ('class_dict.csv', ''), ('label_colors.txt', 'sky 0 0 0\n')])
def test_files_of_the_same_name_with_other_content_are_not_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_class_files(tmp_path).names == []
