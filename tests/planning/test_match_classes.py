"""Classes of a checkpoint and of the test data: the same names are matched, others are refused."""
from pathlib import Path

import pytest
import torch
from helpers.image_files import make_classes
from helpers.small_sets import coco_config, write_coco
from mmengine.config import Config

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning.adapt_config import adapt_classes
from mae_backbone.planning.match_classes import checkpoint_classes, match_classes


def class_folders(root: Path, **classes: int) -> Config:
    make_classes(root / 'val', **classes)
    dataset = dict(type='mae_backbone.ClassFolder', data_root=str(root), split='val', train=False)
    cfg = Config(dict(test_dataloader=dict(dataset=dataset), model=dict(num_classes=2)))
    adapt_classes(cfg)
    return cfg


def test_class_folders_take_the_order_of_the_checkpoint(tmp_path: Path):
    cfg = class_folders(tmp_path, cat=2, dog=1)
    line, = match_classes(cfg, ['dog', 'cat'], 'a.pth')
    assert 'labels are matched by name' in line
    dataset = ClassFolder(**{key: value for key, value in cfg.test_dataloader.dataset.items() if key != 'type'})
    assert dataset.classes == ('dog', 'cat')
    assert dataset.labels.tolist().count(1) == 2
    assert match_classes(cfg, ['dog', 'cat'], 'a.pth') == []


def test_other_names_are_refused_with_both_lists(tmp_path: Path):
    cfg = class_folders(tmp_path, dog=1, wolf=1)
    for with_labels in (True, False):
        with pytest.raises(DataError, match=r'a\.pth was trained on 2 classes \(cat, dog\), the test data have 2 '
                                            r'classes \(dog, wolf\) \(missing: cat; unknown: wolf\)'):
            match_classes(cfg, ['cat', 'dog'], 'a.pth', with_labels=with_labels)
    assert match_classes(cfg, [], 'encoder.pth') == []


def test_coco_is_matched_if_its_metric_reads_annotations(tmp_path: Path):
    write_coco(tmp_path, split='val')
    cfg = coco_config(tmp_path)
    adapt_classes(cfg)
    match_classes(cfg, ['nucleus', 'cell'], 'a.pth')
    assert cfg.test_dataloader.dataset.metainfo.classes == ('nucleus', 'cell')
    cfg = coco_config(tmp_path)
    cfg.test_evaluator = dict(type='VOCMetric')
    adapt_classes(cfg)
    with pytest.raises(DataError, match='the same in another order'):
        match_classes(cfg, ['nucleus', 'cell'], 'a.pth')
    assert match_classes(cfg, ['nucleus', 'cell'], 'a.pth', with_labels=False) == []


def test_label_maps_in_another_order_are_refused(tmp_path: Path):
    dataset = dict(type='mmseg.BaseSegDataset', data_root=str(tmp_path), metainfo=dict(classes=('left', 'right')),
                   data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=[])
    cfg = Config(dict(default_scope='mmseg', test_dataloader=dict(dataset=dataset)))
    with pytest.raises(DataError, match=r'\(right, left\).*\(left, right\), the same in another order.*classes\.txt'):
        match_classes(cfg, ['right', 'left'], 'a.pth')


@pytest.mark.parametrize(('content', 'names'), [
    ({'meta': {'dataset_meta': {'classes': ('a', 'b')}}, 'state_dict': {}}, ['a', 'b']),
    ({'meta': {}, 'state_dict': {}}, []), ({'weight': torch.zeros(1)}, []),
    ({'meta': {'dataset_meta': None}, 'state_dict': {}}, [])])
def test_classes_are_read_from_a_checkpoint(content: dict, names: list, tmp_path: Path):
    torch.save(content, tmp_path / 'a.pth')
    assert checkpoint_classes(tmp_path / 'a.pth') == names
