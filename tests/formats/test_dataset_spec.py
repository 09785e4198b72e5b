from pathlib import Path

import pytest
from helpers.small_sets import class_folder_config, coco_config, label_map_config, write_coco, write_label_maps
from mmdet.registry import DATASETS as DET_DATASETS
from mmengine.config import Config
from mmseg.registry import DATASETS as SEG_DATASETS

from mae_backbone.formats.dataset_spec import absent, class_folders, does_not_exist, evenly, some, sources


def test_paths_are_those_that_mmdet_reads(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_coco(tmp_path / 'elsewhere', split='val')
    cfg = coco_config(tmp_path)
    cfg.val_dataloader.dataset.update(ann_file=str(tmp_path / 'elsewhere/annotations/val.json'),
                                      data_prefix=dict(img=str(tmp_path / 'elsewhere/val')))
    for split in ('train', 'val'):
        source, = sources(cfg, split)
        theirs = DET_DATASETS.build({**source.cfg, 'pipeline': [], 'lazy_init': True})
        assert source.annotations == theirs.ann_file
        assert Path(source.folder('img')) == Path(theirs.data_prefix['img'])
        assert source.classes == list(theirs.metainfo['classes'])


def test_options_are_those_that_mmseg_takes(tmp_path: Path) -> None:
    write_label_maps(tmp_path)
    cfg = label_map_config(tmp_path)
    for name, chosen in (('ADE20KDataset', {}), ('CityscapesDataset', {}), ('ADE20KDataset', {'img_suffix': '.tif'})):
        cfg.train_dataloader.dataset.update(type=name, **chosen)
        source, = sources(cfg, 'train')
        theirs = SEG_DATASETS.build({**source.cfg, 'pipeline': [], 'lazy_init': True})
        assert source.kind == 'label maps'
        for option in ('img_suffix', 'seg_map_suffix', 'reduce_zero_label', 'ignore_index'):
            assert source.option(option) == getattr(theirs, option), (name, option)


def test_wrappers_are_taken_off_and_parts_are_no_copies() -> None:
    cfg = coco_config('data/x')
    inner = cfg.train_dataloader.dataset.dataset.dataset
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[inner, dict(inner, ann_file='more.json')])
    first, second = sources(cfg, 'train')
    assert (first.annotations, second.annotations) == ('data/x/annotations/train.json', 'data/x/more.json')
    second.cfg.metainfo = dict(classes=('cell',))
    assert cfg.train_dataloader.dataset.datasets[1].metainfo.classes == ('cell',)


def test_the_bank_of_neighbors_is_read_in_testing() -> None:
    cfg = class_folder_config('data/x')
    assert [source.option('split') for source in sources(cfg, 'test')] == ['val', 'train']
    assert [source.option('split') for source in sources(cfg, 'val')] == ['val']


@pytest.mark.parametrize(('name', 'kind'), [
    ('mmdet.CocoDataset', 'coco'), ('mmdet.CityscapesDataset', 'coco'),
    ('mmdet.CocoPanopticDataset', ''), ('mmdet.Objects365V1Dataset', ''), ('mmdet.VOCDataset', ''),
    ('mmseg.BaseSegDataset', 'label maps'), ('mmseg.ADE20KDataset', 'label maps'), ('mmseg.NYUDataset', ''),
    ('mae_backbone.ClassFolder', 'class folders'), ('mae_backbone.UnlabeledImages', 'unlabeled'), ('Nothing', '')])
def test_only_what_reads_files_in_a_known_way_has_a_kind(name: str, kind: str) -> None:
    source, = sources(Config(dict(train_dataloader=dict(dataset=dict(type=name)))), 'train')
    assert source.kind == kind


def test_classes_may_stand_in_a_file_or_lack_their_comma(tmp_path: Path) -> None:
    (tmp_path / 'names.txt').write_text('one\ntwo\n', encoding='utf-8')
    cfg = coco_config(tmp_path)
    path = str(tmp_path / 'names.txt')
    for said, classes in ((path, ['one', 'two']), ('nucleus', ['nucleus']), (('a', 'b'), ['a', 'b'])):
        cfg.val_dataloader.dataset.metainfo = dict(classes=said)
        assert sources(cfg, 'val')[0].classes == classes


def test_remote_data_are_not_local() -> None:
    assert sources(coco_config('data/x'), 'val')[0].is_local
    assert not sources(coco_config('s3://bucket/x'), 'val')[0].is_local
    cfg = coco_config('data/x')
    cfg.val_dataloader.dataset.backend_args = dict(backend='petrel')
    assert not sources(cfg, 'val')[0].is_local


def test_class_folders_are_sorted_without_files_and_hidden_ones(tmp_path: Path) -> None:
    for name in ('b', 'a', '.hidden'):
        (tmp_path / 'train' / name).mkdir(parents=True)
    (tmp_path / 'train' / 'notes.txt').write_text('')
    source, = sources(class_folder_config(tmp_path), 'train')
    assert class_folders(source) == ['a', 'b']
    assert class_folders(sources(class_folder_config(tmp_path / 'nowhere'), 'train')[0]) == []


def test_absent_finds_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / 'in').mkdir()
    for name in ('a.jpg', 'in/b.jpg'):
        (tmp_path / name).write_bytes(b'')
    paths = [str(tmp_path / name) for name in ('a.jpg', 'in/b.jpg', 'in/../a.jpg', 'in/c.jpg', 'out/a.jpg', 'a\0.jpg')]
    assert absent(paths) == paths[3:]


def test_what_does_not_exist_is_said_with_what_is_beside(tmp_path: Path) -> None:
    for name in ('camvid', 'nuclei'):
        (tmp_path / name).mkdir()
    (tmp_path / 'x.json').write_text('')
    assert does_not_exist(str(tmp_path / 'nucleus/train')) == (
        f'{tmp_path}/nucleus/train does not exist; {tmp_path} holds camvid/, nuclei/')
    assert 'camvid/, nuclei/, x.json' in does_not_exist(str(tmp_path / 'y.json'), suffix='.json')
    assert 'nothing of the kind' in does_not_exist(str(tmp_path / 'camvid/train'))


def test_evenly_keeps_the_order_and_spans_the_whole() -> None:
    assert evenly(list(range(3)), 5) == [0, 1, 2]
    drawn = evenly(list(range(1000)), 50)
    assert drawn == list(range(0, 1000, 20))


def test_some_are_at_most_three() -> None:
    assert [some([]), some([1, 2, 3]), some('abcd')] == ['', '1, 2, 3', 'a, b, c, ...']
