"""Class folders, lists and shards give the same images with the same labels."""
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import make_classes, save
from helpers.labeled_layouts import COUNTS, add, in_folders, in_list, in_shards
from helpers.small_sets import class_folder_config
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.data.decode import BadImageError
from mae_backbone.data.labeled import layout, open_labeled
from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import dataset_specs
from mae_backbone.formats.registry import format_of
from mae_backbone.planning.adapt_config import adapt_classes


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))














def content(dataset: ClassFolder) -> list[tuple[int, int]]:
    """Label and first pixel of each image, which tells them apart."""
    return sorted((item['data_samples'], int(item['inputs'][0, 0, 0])) for item in dataset)


LAYOUTS = {
    'list of names': lambda root, folders: in_list(root, folders),
    'list of numbers': lambda root, folders: in_list(root, folders, numbers=True, tab=False),
    'shards, .cls': lambda root, folders: in_shards(root, folders),
    'shards, .json of names': lambda root, folders: in_shards(root, folders, suffix='.json', numbers=False)}


@pytest.mark.parametrize('kind', LAYOUTS)
def test_layouts_give_the_same_images_and_labels(tmp_path: Path, kind: str):
    folders = in_folders(tmp_path / 'folders')
    root = LAYOUTS[kind](tmp_path / 'other', folders)
    assert layout(root, 'train') == kind.split(' ')[0].rstrip(',')
    for split in ('train', 'val'):
        wanted = ClassFolder(folders, split, train=False, image_size=8)
        found = ClassFolder(root, split, train=False, image_size=8)
        assert found.metainfo == wanted.metainfo
        assert content(found) == content(wanted)
        assert found.labels.tolist() == sorted(found.labels.tolist())
        assert found.fingerprint() != wanted.fingerprint()
        half = ClassFolder(root, split, train=False, image_size=8, fraction=0.5)
        assert np.bincount(half.labels).tolist() == [2, 1, 2]
        assert set(content(half)) < set(content(wanted))
    loader = DataLoader(pickle.loads(pickle.dumps(found)), 4, num_workers=2, collate_fn=pseudo_collate)
    assert [label for batch in loader for label in batch['data_samples']] == found.labels.tolist()
    turned = ClassFolder(root, 'val', train=False, image_size=8, classes=['emu', 'a dog', 'cat'])
    if 'number' not in kind and '.cls' not in kind:  # numbers mean places
        assert np.bincount(turned.labels).tolist() == [4, 3, 2]


@pytest.mark.parametrize('kind', LAYOUTS)
def test_config_is_adapted_and_checked(tmp_path: Path, kind: str):
    root = LAYOUTS[kind](tmp_path / 'other', in_folders(tmp_path / 'folders'))
    cfg = class_folder_config(root)
    assert 'classes: 3 (a dog, cat, emu)' in adapt_classes(cfg)[0]
    assert cfg.model.num_classes == 3
    assert check_data(cfg, splits=['train', 'val']) == ['train: 9 images of 3 classes', 'val: 9 images of 3 classes']
    spec = dataset_specs(cfg, 'val')[0]
    if 'list' in kind:
        assert Counter(format_of(spec)._class_of_image.values()) == COUNTS
    else:
        with pytest.raises(ValueError, match='shards cannot be surveyed'):
            format_of(spec).images()


def test_folder_of_shards_is_a_split(tmp_path: Path):
    shards = in_shards(tmp_path / 'flat', in_folders(tmp_path / 'folders'))
    (tmp_path / 'nested/train').mkdir(parents=True)
    for path in shards.glob('train-*.tar'):
        path.rename(tmp_path / 'nested/train' / path.name)
    found = open_labeled(tmp_path / 'nested', 'train')
    assert np.bincount(found.labels).tolist() == [3, 2, 4]
    assert found.classes == ('0', '1', '2')  # without names


def test_labels_follow_the_training_split(tmp_path: Path):
    save(tmp_path / '1.png')
    (tmp_path / 'train.txt').write_text('1.png a\n1.png b\n1.png c\n')
    (tmp_path / 'val.txt').write_text('1.png c\n')
    found = ClassFolder(tmp_path, 'val', train=False, image_size=8)
    assert found.classes == ('a', 'b', 'c')
    assert found.labels.tolist() == [2]
    (tmp_path / 'val.txt').write_text('1.png d\n')
    with pytest.raises(ValueError, match=r'val \(list\) has 1 classes \(d\) that are not among the 3 of training'):
        ClassFolder(tmp_path, 'val', train=False)


@pytest.mark.parametrize(('folders', 'names', 'says'), [
    (('0', '1', '2'), 'crane\ndog\ncrane\n', r'classes\.txt names crane more than once'),
    (('0', '1', '01'), 'crane\ndog\n', 'has folders with the same number')])
def test_two_classes_never_become_one(tmp_path: Path, folders: tuple[str, ...], names: str, says: str):
    make_classes(tmp_path / 'train', **dict.fromkeys(folders, 1))
    (tmp_path / 'classes.txt').write_text(names)
    with pytest.raises(ValueError, match=says):
        ClassFolder(tmp_path, train=True)


def test_labels_follow_the_training_split_in_another_layout(tmp_path: Path):
    save(tmp_path / '1.png')
    make_classes(tmp_path / 'train', **{'1': 1, '3': 2})  # names, though they are made of digits
    (tmp_path / 'val.txt').write_text('1.png 3\n')
    assert ClassFolder(tmp_path, 'val', train=False, image_size=8).labels.tolist() == [1]
    (tmp_path / 'listed').mkdir()
    (tmp_path / 'listed/train.txt').write_text('../1.png a\n../1.png b\n../1.png c\n')
    make_classes(tmp_path / 'listed/val', a=1, c=1)
    with pytest.raises(ValueError, match=r"2 class folders that differ from the 3 of .*train: missing \['b'\]"):
        ClassFolder(tmp_path / 'listed', 'val', train=False)


@pytest.mark.parametrize(('text', 'says'), [
    ('1.png\n', r"train\.txt, line 1: '1\.png' is not a path and a class"),
    ('1.png a\n2.png a\n', r'2\.png does not exist: .*train\.txt names it'),
    ('\n', r'train\.txt names no images')])
def test_malformed_list_raises_with_its_name(tmp_path: Path, text: str, says: str):
    save(tmp_path / '1.png')
    (tmp_path / 'train.txt').write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        ClassFolder(tmp_path, 'train', train=False)


@pytest.mark.parametrize(('members', 'says'), [
    ({'1.png': b'x'}, r'the image 1 has no \.cls or \.json file'),
    ({'1.png': b'x', '1.json': b'{"width": 3}'}, r'1\.json holds no class'),
    ({'1.png': b'x', '1.json': b'[3]'}, r'1\.json holds no class'),
    ({'1.png': b'x', '1.cls': b'\xff\xfe'}, r'1\.cls holds no class'),
    ({'1.png': b'x', '1.cls': b' \n'}, r'1\.cls is empty')])
def test_shard_without_classes_raises_with_its_name(tmp_path: Path, members: dict[str, bytes], says: str):
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        for name, data in members.items():
            add(tar, name, data)
    with pytest.raises(ValueError, match=says):
        ClassFolder(tmp_path, 'train', train=False)


def test_unreadable_image_in_a_shard_is_named(tmp_path: Path):
    with tarfile.open(tmp_path / 'train.tar', 'w') as tar:
        add(tar, '1.png', b'no image')
        add(tar, '1.cls', b'0')
    with pytest.raises(BadImageError, match=r'train\.tar/1\.png is not an image'):
        ClassFolder(tmp_path, 'train', train=False)[0]
