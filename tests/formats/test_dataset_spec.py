from pathlib import Path

from helpers.small_sets import class_folder_config, coco_config, label_map_config, write_coco, write_label_maps
from mmdet.registry import DATASETS as DET_DATASETS
from mmseg.registry import DATASETS as SEG_DATASETS

from mae_backbone.formats.dataset_spec import dataset_specs, dicts_in


def test_paths_equal_mmdets(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_coco(tmp_path / 'elsewhere', split='val')
    cfg = coco_config(tmp_path)
    cfg.val_dataloader.dataset.update(ann_file=str(tmp_path / 'elsewhere/annotations/val.json'),
                                      data_prefix=dict(img=str(tmp_path / 'elsewhere/val')))
    for split in ('train', 'val'):
        spec, = dataset_specs(cfg, split)
        theirs = DET_DATASETS.build({**spec.cfg, 'pipeline': [], 'lazy_init': True})
        assert spec.annotations == theirs.ann_file
        assert Path(spec.folder('img')) == Path(theirs.data_prefix['img'])
        assert spec.class_names == list(theirs.metainfo['classes'])


def test_options_equal_mmsegs(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    cfg = label_map_config(tmp_path)
    for name, chosen in (('ADE20KDataset', {}), ('CityscapesDataset', {}), ('ADE20KDataset', {'img_suffix': '.tif'})):
        cfg.train_dataloader.dataset.update(type=name, **chosen)
        spec, = dataset_specs(cfg, 'train')
        theirs = SEG_DATASETS.build({**spec.cfg, 'pipeline': [], 'lazy_init': True})
        for option in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label', 'ignore_index'):
            assert spec.option(option) == getattr(theirs, option), (name, option)


def test_wrappers_are_removed_without_copying() -> None:
    cfg = coco_config('data/x')
    inner = cfg.train_dataloader.dataset.dataset.dataset
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[inner, dict(inner, ann_file='more.json')])
    first, second = dataset_specs(cfg, 'train')
    assert (first.annotations, second.annotations) == ('data/x/annotations/train.json', 'data/x/more.json')
    second.cfg.metainfo = dict(classes=('cell',))
    assert cfg.train_dataloader.dataset.datasets[1].metainfo.classes == ('cell',)


def test_bank_of_neighbors_belongs_to_the_test_split() -> None:
    cfg = class_folder_config('data/x')
    assert [spec.option('split') for spec in dataset_specs(cfg, 'test')] == ['val', 'train']
    assert [spec.option('split') for spec in dataset_specs(cfg, 'val')] == ['val']


def test_class_names_come_from_a_tuple_a_string_or_a_file(tmp_path: Path) -> None:
    (tmp_path / 'names.txt').write_text('one\ntwo\n', encoding='utf-8')
    cfg = coco_config(tmp_path)
    path = str(tmp_path / 'names.txt')
    for said, classes in ((path, ['one', 'two']), ('nucleus', ['nucleus']), (('a', 'b'), ['a', 'b'])):
        cfg.val_dataloader.dataset.metainfo = dict(classes=said)
        assert dataset_specs(cfg, 'val')[0].class_names == classes


def test_remote_data_are_not_local() -> None:
    assert dataset_specs(coco_config('data/x'), 'val')[0].is_local
    assert not dataset_specs(coco_config('s3://bucket/x'), 'val')[0].is_local
    cfg = coco_config('data/x')
    cfg.val_dataloader.dataset.backend_args = dict(backend='petrel')
    assert not dataset_specs(cfg, 'val')[0].is_local


def test_all_nested_dicts_are_found() -> None:
    config = dict(a=[dict(b=1), (dict(c=dict(d=2)), 'text')])
    assert list(dicts_in(config)) == [config, dict(b=1), dict(c=dict(d=2)), dict(d=2)]
    assert list(dicts_in(None)) == []
