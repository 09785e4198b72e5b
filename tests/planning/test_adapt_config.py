import json
from pathlib import Path

import pytest
from helpers.small_sets import (
    class_folder_config,
    coco_config,
    coco_content,
    label_map_config,
    write_class_folders,
    write_coco,
    write_label_maps,
)
from mmdet.registry import DATASETS as DET_DATASETS
from mmengine.config import Config
from mmengine.hub import get_config
from mmseg.registry import DATASETS as SEG_DATASETS

from mae_backbone.formats.dataset_spec import DataError, dataset_specs
from mae_backbone.planning.adapt_config import adapt_classes, replace_data_root, take_classes
from mae_backbone.registry import DATASETS


def text_of(cfg: Config) -> str:
    return json.dumps(cfg.to_dict())


# ---- folders

@pytest.mark.parametrize('root', ['/mnt/my data', '/mnt/my data/', 'x', 'data/coco/small'])
@pytest.mark.parametrize('name', ['mask_rcnn/mask-rcnn_r50_fpn_1x_coco', 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco'])
def test_all_paths_of_an_mmdet_config_are_replaced(name: str, root: str) -> None:
    """The result equals a replacement in the text of the config."""
    cfg = get_config(f'mmdet::{name}.py')
    before = text_of(cfg)
    replace_data_root(cfg, root)
    root = root.rstrip('/')
    assert text_of(cfg) == before.replace('"data/coco/', f'"{root}/')
    assert cfg.train_dataloader.dataset.data_root == f'{root}/'


def test_replacing_twice_restores_the_config() -> None:
    cfg = coco_config('data/coco')
    replace_data_root(cfg, '/mnt/x')
    assert 'data/coco' not in text_of(cfg)
    replace_data_root(cfg, 'data/coco')
    assert text_of(cfg) == text_of(coco_config('data/coco'))


def test_only_paths_of_data_are_replaced() -> None:
    cfg = Config(dict(
        data_root='coco', load_from='coco/start.pth', work_dir='coco/runs',
        default_hooks=dict(checkpoint=dict(save_best='coco/bbox_mAP')),
        model=dict(init_cfg=dict(checkpoint='coco/mae.pth')),
        val_evaluator=[dict(type='CocoMetric', prefix='coco', ann_file='coco/val.json', other='coconut/val.json')],
        train_dataloader=dict(dataset=dict(datasets=[dict(data_root='coco/', data_prefix=dict(img='coco/images'))])),
        test_dataloader=dict(dataset=dict(data_root='', ann_file='val.json')),
        val_dataloader=dict(dataset=dict(data_root='elsewhere', sizes=(1, 2), ann_file='elsewhere/val.json')),
        test_cfg=dict(bank=dict(dataset=dict(data_root='coco/bank')))))
    before = cfg.to_dict()
    replace_data_root(cfg, '/x')
    for key in ('load_from', 'work_dir', 'default_hooks', 'model'):
        assert cfg[key] == before[key]
    assert cfg.val_evaluator[0] == before['val_evaluator'][0] | dict(ann_file='/x/val.json')
    assert cfg.train_dataloader.dataset.datasets == [dict(data_root='/x/', data_prefix=dict(img='/x/images'))]
    assert cfg.test_dataloader.dataset == dict(data_root='/x', ann_file='val.json')
    assert cfg.val_dataloader.dataset == dict(data_root='/x', sizes=(1, 2), ann_file='/x/val.json')
    assert cfg.test_cfg.bank.dataset.data_root == '/x/bank'


def test_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('HOME', '/home/me')
    cfg = coco_config('data/coco')
    replace_data_root(cfg, '~/cells')
    assert cfg.val_evaluator.ann_file == '/home/me/cells/annotations/val.json'


def test_config_without_data_root_is_refused() -> None:
    with pytest.raises(DataError, match='no data_root'):
        replace_data_root(Config(dict(model={})), 'x')


# ---- classes

def test_categories_become_the_classes_of_all_splits_and_heads(tmp_path: Path) -> None:
    for split in ('train', 'val'):
        path = write_coco(tmp_path, split=split)
    cfg = coco_config(tmp_path)
    assert adapt_classes(cfg) == [f'classes: 2 (cell, nucleus), from {path.with_name("train.json")}']
    heads = cfg.model.roi_head
    assert [head.num_classes for head in heads.bbox_head] == [2, 2]
    assert (heads.mask_head.num_classes, heads.mask_head.loss.num_classes) == (2, 2)
    assert (cfg.model.backbone.num_classes, cfg.model.rpn_head.num_classes) == (1000, 1)
    for split in ('train', 'val', 'test'):
        spec, = dataset_specs(cfg, split)
        theirs = DET_DATASETS.build({**spec.cfg, 'pipeline': []})
        assert theirs.metainfo['classes'] == ('cell', 'nucleus')
        assert len(set(theirs.metainfo['palette'])) == 2
        assert [theirs.cat2label[number] for number in (7, 3)] == [0, 1]
    again = cfg.to_dict()
    adapt_classes(cfg)
    assert cfg.to_dict() == again


def test_classes_of_coco_are_kept(tmp_path: Path) -> None:
    cfg = coco_config(tmp_path)
    names = dataset_specs(cfg, 'train')[0].default_class_names
    content = coco_content() | dict(categories=[dict(id=i, name=name) for i, name in enumerate(names)])
    write_coco(tmp_path, content)
    before = cfg.to_dict()
    assert adapt_classes(cfg)[0].startswith('classes: 80 (person, bicycle, car, ')
    assert cfg.to_dict() == before


@pytest.mark.parametrize(('names', 'classes'), [
    (('nucleus',), ('nucleus',)), ('nucleus', ('nucleus',)), (('nucleus', 'cell'), ('cell', 'nucleus')),
    (('person', 'cell'), ('cell', 'nucleus')), (('person',), ('cell', 'nucleus'))])
def test_config_may_choose_some_categories(tmp_path: Path, names: object, classes: tuple[str, ...]) -> None:
    """For any classes in the config, names and numbers of mmdet's labels agree afterwards."""
    write_coco(tmp_path)
    cfg = coco_config(tmp_path)
    cfg.train_dataloader.dataset.dataset.dataset.metainfo = dict(classes=names)
    adapt_classes(cfg)
    assert cfg.val_dataloader.dataset.metainfo.classes == classes
    assert cfg.model.roi_head.mask_head.num_classes == len(classes)
    theirs = DET_DATASETS.build({**dataset_specs(cfg, 'train')[0].cfg, 'pipeline': []})
    assert theirs.metainfo['classes'] == classes
    assert tuple({7: 'cell', 3: 'nucleus'}[number] for number in theirs.cat_ids) == classes


def test_test_set_names_the_classes_without_training_data(tmp_path: Path) -> None:
    path = write_coco(tmp_path, split='val')
    cfg = coco_config(tmp_path)
    assert adapt_classes(cfg) == [f'classes: 2 (cell, nucleus), from {path}']
    assert cfg.train_dataloader.dataset.dataset.dataset.metainfo.classes == ('cell', 'nucleus')


def test_classes_of_a_checkpoint_are_taken_for_all_splits_and_heads(tmp_path: Path) -> None:
    """As the data would set them, but for the data that are read."""
    write_coco(tmp_path)
    of_data, of_checkpoint = coco_config(tmp_path), coco_config('absent')
    adapt_classes(of_data)
    take_classes(of_checkpoint, ('cell', 'nucleus'))
    assert of_checkpoint.model == of_data.model
    for split in ('train', 'val', 'test'):
        assert [spec.class_names for spec in dataset_specs(of_checkpoint, split)] == [['cell', 'nucleus']]
    before = of_checkpoint.to_dict()
    take_classes(of_checkpoint, ())
    assert of_checkpoint.to_dict() == before


@pytest.mark.parametrize('make', [coco_config, class_folder_config])
def test_config_is_unchanged_without_data(tmp_path: Path, make) -> None:
    cfg = make(tmp_path)
    before = cfg.to_dict()
    assert adapt_classes(cfg) == []
    assert cfg.to_dict() == before


def test_damaged_file_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path).write_text('{', encoding='utf-8')
    with pytest.raises(DataError, match='truncated'):
        adapt_classes(coco_config(tmp_path))


def test_long_lists_are_shortened_only_in_the_line(tmp_path: Path) -> None:
    content = coco_content()
    content['categories'] += [dict(id=i, name=f'class {i}') for i in range(10, 30)]
    write_coco(tmp_path, content)
    cfg = coco_config(tmp_path)
    line, = adapt_classes(cfg)
    assert line.startswith('classes: 22 (cell, nucleus, class 10, ')
    assert 'class 15, ...), from' in line
    assert len(cfg.val_dataloader.dataset.metainfo.classes) == 22


def test_classes_txt_names_the_classes_of_label_maps(tmp_path: Path) -> None:
    for split in ('training', 'validation'):
        write_label_maps(tmp_path, split)
    cfg = label_map_config(tmp_path)
    assert adapt_classes(cfg) == [f'classes: 3 (sky, road, car), from {tmp_path}/classes.txt']
    assert (cfg.model.decode_head.num_classes, cfg.model.auxiliary_head[0].num_classes) == (3, 3)
    for split in ('train', 'val', 'test'):
        theirs = SEG_DATASETS.build(dict(dataset_specs(cfg, split)[0].cfg))
        assert theirs.metainfo['classes'] == ('sky', 'road', 'car')
        assert len(theirs.metainfo['palette']) == 3


@pytest.mark.parametrize(('config', 'weights', 'kept'), [
    (('sky', 'road', 'car'), [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),  # the same classes
    (('a', 'b', 'c'), [1.0, 2.0, 3.0], None),  # as many others
    (('a', 'b'), [1.0, 2.0], None),
    (('a', 'b'), [1.0, 1.0, 0.1], [1.0, 1.0, 1.0, 0.1]),  # and no object
])
def test_weights_of_other_classes_are_removed(tmp_path: Path, config: tuple, weights: list, kept: list | None) -> None:
    write_label_maps(tmp_path)
    cfg = label_map_config(tmp_path, metainfo=dict(classes=config))
    cfg.model.decode_head = dict(num_classes=len(config), loss_decode=[dict(class_weight=weights)])
    lines = adapt_classes(cfg)
    assert cfg.model.decode_head.loss_decode[0].class_weight == kept
    assert ('are removed: `mae-backbone check`' in lines[-1]) == (kept is None)


def test_ade20k_data_set_takes_other_classes(tmp_path: Path) -> None:
    for split in ('training', 'validation'):
        write_label_maps(tmp_path, split)
    cfg = label_map_config(tmp_path)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.type = 'ADE20KDataset'
    lines = adapt_classes(cfg)
    assert len(lines) == 2
    assert lines[1].startswith('ADE20KDataset becomes BaseSegDataset')
    theirs = SEG_DATASETS.build(dict(cfg.train_dataloader.dataset))
    assert theirs.metainfo['classes'] == ('sky', 'road', 'car')
    assert theirs.reduce_zero_label is True  # ADE20KDataset's own default
    assert theirs[0]['gt_seg_map'].ravel()[:4].tolist() == [255, 0, 1, 255]


def test_chosen_classes_of_ade20k_are_mapped_by_mmseg(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').unlink()
    cfg = label_map_config(tmp_path)
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.type = 'ADE20KDataset'
    cfg.train_dataloader.dataset.metainfo = dict(classes=('sky', 'wall'))
    assert adapt_classes(cfg) == ['classes: 2 (sky, wall), from the config']
    theirs = SEG_DATASETS.build({**cfg.val_dataloader.dataset, 'lazy_init': True})
    assert theirs.label_map[2] == 0  # ADE20K: wall, building, sky
    assert len(theirs.metainfo['palette']) == 2


def test_heads_follow_the_config_without_classes_txt(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    (tmp_path / 'classes.txt').unlink()
    cfg = label_map_config(tmp_path, metainfo=dict(classes=('a', 'b')))
    assert adapt_classes(cfg) == ['classes: 2 (a, b), from the config']
    assert cfg.model.decode_head.num_classes == 2
    cfg = label_map_config(tmp_path)
    before = cfg.to_dict()
    assert adapt_classes(cfg) == []
    assert cfg.to_dict() == before


def test_class_folders_name_the_classes(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 'train', ('dog', 'cat'))
    write_class_folders(tmp_path, 'val', ('dog', 'cat'))
    cfg = class_folder_config(tmp_path)
    assert adapt_classes(cfg) == [f'classes: 2 (cat, dog), from {tmp_path}/train']
    assert cfg.model.num_classes == 2
    for dataset in (cfg.train_dataloader.dataset, cfg.test_dataloader.dataset, cfg.test_cfg.bank.dataset):
        assert DATASETS.build(dict(dataset)).metainfo['classes'] == ('cat', 'dog')


def test_order_of_classes_in_the_config_is_kept(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 'train')
    cfg = class_folder_config(tmp_path)
    cfg.train_dataloader.dataset.classes = ['dog', 'cat']
    assert adapt_classes(cfg) == ['classes: 2 (dog, cat), from the config']
    assert cfg.val_dataloader.dataset.classes == ['dog', 'cat']


def test_model_without_head_is_unchanged(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 'train')
    cfg = class_folder_config(tmp_path)
    cfg.model.num_classes = 0
    adapt_classes(cfg)
    assert cfg.model.num_classes == 0


def test_adapted_configs_can_be_written_and_read(tmp_path: Path) -> None:
    content = coco_content()
    content['categories'][0]['name'] = "it's \"é\"\n"
    write_coco(tmp_path, content)
    cfg = coco_config(tmp_path)
    adapt_classes(cfg)
    cfg.dump(tmp_path / 'config.py')
    assert Config.fromfile(tmp_path / 'config.py').to_dict() == cfg.to_dict()


def test_files_with_a_byte_order_mark_are_read_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('MAE_BACKBONE_CACHE', str(tmp_path / 'cache'))
    for split in ('train', 'val'):
        path = write_coco(tmp_path, split=split)
        path.write_text('\ufeff' + path.read_text(encoding='utf-8'), encoding='utf-8')
    cfg = coco_config(tmp_path)
    lines = adapt_classes(cfg)
    assert [line for line in lines if 'starts with a byte-order mark, and is read from a copy' in line] == lines[:2]
    assert 'classes: 2 (cell, nucleus)' in lines[2]
    assert cfg.val_evaluator.ann_file == cfg.val_dataloader.dataset.ann_file
    spec, = dataset_specs(cfg, 'train')
    assert len(DET_DATASETS.build({**spec.cfg, 'pipeline': []})) == 2
    assert adapt_classes(cfg) == lines[2:]
