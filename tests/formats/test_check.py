import json
import shutil
from pathlib import Path

import pytest
from helpers.small_sets import (
    SIZES,
    class_folder_config,
    coco_config,
    coco_content,
    label_map_config,
    write_class_folders,
    write_coco,
    write_image,
    write_label_maps,
)
from mmengine.config import Config

from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import DataError
from mae_backbone.planning.adapt_config import adapt_classes


def detection(root: Path, **options) -> Config:
    for split in ('train', 'val'):
        write_coco(root, split=split)
    cfg = coco_config(root, **options)
    adapt_classes(cfg)
    return cfg


def segmentation(root: Path) -> Config:
    for split in ('training', 'validation'):
        write_label_maps(root, split)
    cfg = label_map_config(root)
    adapt_classes(cfg)
    return cfg


def classification(root: Path) -> Config:
    for split in ('train', 'val'):
        write_class_folders(root, split)
    cfg = class_folder_config(root)
    adapt_classes(cfg)
    return cfg


def refused(cfg: Config, **options) -> str:
    with pytest.raises(DataError) as caught:
        check_data(cfg, **options)
    assert len(str(caught.value)) < 900
    return str(caught.value)


def test_valid_data_are_counted(tmp_path: Path) -> None:
    lines = check_data(detection(tmp_path / 'a'))
    assert [line for line in lines if 'images, ' in line or 'same' in line] == [
        'train: 3 images, 3 boxes of 2 classes', 'val: 3 images, 3 boxes of 2 classes', 'test: the same data as val']
    assert check_data(segmentation(tmp_path / 'b')) == [
        f'{split}: 3 images with label maps of 3 classes, 3 inspected, 25.0% of the pixels ignored'
        for split in ('train', 'val')] + ['test: the same data as val']
    assert check_data(classification(tmp_path / 'c')) == [
        'train: 4 images of 2 classes', 'val: 4 images of 2 classes', 'test: the same data as val',
        'test: the same data as train']


def test_only_the_requested_splits_are_checked(tmp_path: Path) -> None:
    cfg = detection(tmp_path)
    shutil.rmtree(tmp_path / 'train')
    assert check_data(cfg, splits=['test'])[0] == 'test: 3 images, 3 boxes of 2 classes'
    assert 'train' in refused(cfg)
    assert check_data(Config(dict(train_dataloader=None, model={}))) == []


def test_unlabeled_images_are_counted(tmp_path: Path) -> None:
    for name in ('a', 'b/c', 'b/d'):
        write_image(tmp_path / 'images' / f'{name}.png')
    dataset = dict(type='mae_backbone.UnlabeledImages', data_root=str(tmp_path / 'images'))
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    assert adapt_classes(cfg) == []
    assert check_data(cfg, splits=['train']) == ['train: 3 images']
    (tmp_path / 'list.txt').write_text('images/a.png\nimages/b/c.png\n')
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'list.txt')
    assert check_data(cfg, splits=['train']) == ['train: 2 images']
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'images/b/nothing')
    assert 'b/nothing does not exist' in refused(cfg)


@pytest.mark.parametrize('make', [detection, segmentation, classification])
def test_missing_root_names_neighboring_folders(tmp_path: Path, make) -> None:
    cfg = make(tmp_path / 'cells')
    (tmp_path / 'cells').rename(tmp_path / 'cell')
    message = refused(cfg)
    assert f'{tmp_path} contains cell/' in message
    assert '--data-root' in message
    (tmp_path / 'cells').write_bytes(b'PK')
    assert 'is a file, expected the folder of the data: unpack it' in refused(cfg)


@pytest.mark.parametrize('make', [detection, segmentation, classification])
def test_unreadable_images_are_named(tmp_path: Path, make) -> None:
    cfg = make(tmp_path)
    image = min(path for path in tmp_path.rglob('*.*g') if 'annotations' not in path.parts)
    image.write_bytes(image.read_bytes()[:100])
    message = refused(cfg)
    assert message.startswith(('train: 1 of 3 sampled images cannot', 'train: 1 of 4 sampled images cannot'))
    assert str(image) in message


def test_other_sizes_than_stated_are_refused(tmp_path: Path) -> None:
    content = coco_content()
    content['images'][0].update(width=30, height=40)
    cfg = detection(tmp_path)
    write_coco(tmp_path, content)
    assert 'train/a.png: 30x40 stated, 40x30 read' in refused(cfg)


def test_masks_are_required_by_pipeline_or_metric(tmp_path: Path) -> None:
    content = coco_content()
    for annotation in content['annotations']:
        del annotation['segmentation']
    for masks in (False, True):
        cfg = detection(tmp_path, masks=masks)
        for split in ('train', 'val'):
            write_coco(tmp_path, content, split)
        if masks:
            assert '4 annotations have no segmentation' in refused(cfg)
            assert 'use a config without masks' in refused(cfg)
        else:
            check_data(cfg)
            cfg.test_evaluator.metric = ['bbox', 'segm']
            assert 'no segmentation' in refused(cfg)
            assert 'no segmentation' not in ''.join(check_data(cfg, splits=['train', 'val']))


def test_labels_are_not_required_when_predictions_are_only_written(tmp_path: Path) -> None:
    cfg = detection(tmp_path)
    content = coco_content()
    del content['annotations']
    write_coco(tmp_path, content, 'val')
    assert "has no list 'annotations'" in refused(cfg)
    cfg.test_evaluator.update(format_only=True, outfile_prefix='x')
    assert check_data(cfg, splits=['test']) == ['test: 3 images, 0 boxes of 2 classes']


def test_categories_of_val_in_another_order_are_refused(tmp_path: Path) -> None:
    cfg = detection(tmp_path)
    content = coco_content()
    content['categories'].reverse()
    write_coco(tmp_path, content, 'val')
    assert 'labels would be mixed up' in refused(cfg)


@pytest.mark.parametrize('kind', ['mmdet.CocoMetric', 'mae_backbone.LVISMetric'])
def test_evaluator_with_other_images_is_refused(tmp_path: Path, kind: str) -> None:
    cfg = detection(tmp_path)
    shutil.copy(tmp_path / 'annotations/val.json', tmp_path / 'annotations/copy.json')
    cfg.val_evaluator = [dict(type=kind, ann_file=str(tmp_path / 'annotations/copy.json'))]
    check_data(cfg)
    content = coco_content()
    content['images'].append(dict(id=4, file_name='d.png', width=5, height=5))
    (tmp_path / 'annotations/copy.json').write_text(json.dumps(content))
    assert 'val_dataloader reads: set both to the same file' in refused(cfg)
    cfg.val_evaluator[0].ann_file = str(tmp_path / 'annotations/none.json')
    assert 'contains copy.json, train.json, val.json' in refused(cfg)


def test_unknown_formats_and_remote_data_are_not_checked() -> None:
    for dataset in (dict(type='mmdet.VOCDataset', data_root='data/voc'),
                    dict(type='mmdet.CocoDataset', data_root='s3://bucket/coco', ann_file='x.json')):
        cfg = Config(dict(train_dataloader=dict(dataset=dataset), model={}))
        assert adapt_classes(cfg) == []
        assert check_data(cfg) == [f'train: {dataset["type"]} in {dataset["data_root"]}: not checked']


def test_unusable_class_folders_are_refused(tmp_path: Path) -> None:
    cfg = classification(tmp_path)
    (tmp_path / 'val/dog').rename(tmp_path / 'val/wolf')
    assert '1 are missing (dog), 1 are unknown (wolf)' in refused(cfg)
    shutil.rmtree(tmp_path / 'val')
    assert 'the val split' in refused(cfg)
    assert 'contains train/' in refused(cfg)
    for path in (tmp_path / 'train/cat').iterdir():
        path.unlink()
    assert '1 of the 2 class folders in' in refused(cfg)
    for name in ('cat', 'dog'):
        shutil.rmtree(tmp_path / 'train' / name)
    assert 'has no class folders' in refused(cfg)


def test_missing_label_map_is_refused(tmp_path: Path) -> None:
    cfg = segmentation(tmp_path)
    (tmp_path / 'annotations/validation' / f'{min(SIZES)}.png').unlink()
    assert 'have no partner' in refused(cfg)
    assert check_data(cfg, splits=['train'])
    cfg.test_evaluator.format_only = True
    assert check_data(cfg, splits=['test']) == [f'test: BaseSegDataset in {tmp_path}: not checked']
