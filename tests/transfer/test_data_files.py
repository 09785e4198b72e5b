"""Files of a data set: a copy has the same description, every change of a name or size another one."""
import os
import shutil

import pytest

from mae_backbone.transfer.data_files import describe_files


def test_a_copy_has_the_same_description_and_every_change_another_one(tmp_path):
    data = tmp_path / 'data'
    (data / 'train').mkdir(parents=True)
    (data / 'train' / 'a.png').write_bytes(b'12345')
    (data / 'labels.json').write_bytes(b'{}')
    first = describe_files(data, tmp_path / 'out')
    assert (first['files'], first['bytes']) == (2, 7)
    shutil.copytree(data, tmp_path / 'copy')
    assert describe_files(tmp_path / 'copy', tmp_path / 'out') == first
    found = {first['hash']}
    for number, (source, target) in enumerate([('train/a.png', 'train/b.png'), ('labels.json', 'train/labels.json')]):
        (data / source).rename(data / target)
        found.add(describe_files(data, tmp_path / 'out')['hash'])
        assert len(found) == number + 2
    (data / 'train' / 'b.png').write_bytes(b'1234')
    found.add(describe_files(data, tmp_path / 'out')['hash'])
    assert len(found) == 4


def test_outputs_and_hidden_files_do_not_count(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'1')
    first = describe_files(tmp_path, tmp_path / 'out')
    for name in ('out/cell.json', 'work_dirs/run/iter_1.pth', '.cache/scan.json', '.DS_Store'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b'12')
    assert describe_files(tmp_path, tmp_path / 'out') == first


@pytest.mark.skipif(os.name == 'nt', reason='links need rights on Windows')
def test_linked_folders_count_and_cycles_end(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'a.png').write_bytes(b'123')
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'train').symlink_to(tmp_path / 'images')
    (data / 'train' / 'again').symlink_to(data)
    (data / 'nowhere.png').symlink_to(tmp_path / 'missing.png')
    assert describe_files(data, tmp_path / 'out')['files'] == 1


def test_a_folder_that_does_not_exist_has_no_files(tmp_path):
    assert describe_files(tmp_path / 'none', tmp_path)['files'] == 0
