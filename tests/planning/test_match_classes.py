"""Classes of a checkpoint and of the test data: the same names are matched, others are refused."""
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_files import make_classes
from helpers.small_sets import coco_config, label_map_config, write_coco, write_label_maps
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mae_backbone.data.class_folder import ClassFolder
from mae_backbone.formats.check import check_data
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


@pytest.mark.parametrize('metric', ['CocoMetric', 'VOCMetric'])
def test_coco_labels_follow_the_order_of_the_checkpoint(metric: str, tmp_path: Path):
    """mmdet numbers the categories in the order of the file, for training and for every metric."""
    for split in ('train', 'val'):
        write_coco(tmp_path, split=split)
    cfg = coco_config(tmp_path)
    cfg.test_evaluator.type = metric
    adapt_classes(cfg)
    match_classes(cfg, ['nucleus', 'cell'], 'a.pth')
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
    assert dataset.metainfo['classes'] == ('nucleus', 'cell')
    assert dataset.cat2label == {3: 0, 7: 1}
    assert cfg.test_evaluator.ann_file == dataset.ann_file
    check_data(cfg, splits=['test'])


def test_label_maps_follow_the_order_of_the_checkpoint(tmp_path: Path):
    maps = []
    for names in ([], ['car', 'sky', 'road']):
        for split in ('training', 'validation'):
            write_label_maps(tmp_path, split)
        cfg = label_map_config(tmp_path)
        adapt_classes(cfg)
        match_classes(cfg, names, 'a.pth')
        with DefaultScope.overwrite_default_scope('mmseg'):
            dataset = DATASETS.build(cfg.test_dataloader.dataset)
        maps.append(dataset[0]['gt_seg_map'])
    assert dataset.metainfo['classes'] == ('car', 'sky', 'road')
    for old, new in {0: 1, 1: 2, 2: 0, 255: 255}.items():
        np.testing.assert_array_equal(maps[1][maps[0] == old], new)


def test_nearest_neighbors_take_any_checkpoint(tmp_path: Path):
    cfg = class_folders(tmp_path, cat=2, dog=1)
    cfg.test_cfg = dict(type='mae_backbone.KNNLoop')
    assert match_classes(cfg, ['wolf'], 'a.pth') == []


@pytest.mark.parametrize(('content', 'names'), [
    ({'meta': {'dataset_meta': {'classes': ('a', 'b')}}, 'state_dict': {}}, ['a', 'b']),
    ({'meta': {}, 'state_dict': {}}, []), ({'weight': torch.zeros(1)}, []),
    ({'meta': {'dataset_meta': None}, 'state_dict': {}}, [])])
def test_classes_are_read_from_a_checkpoint(content: dict, names: list, tmp_path: Path):
    torch.save(content, tmp_path / 'a.pth')
    assert checkpoint_classes(tmp_path / 'a.pth') == names
