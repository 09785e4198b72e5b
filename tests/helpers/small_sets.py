"""Small data sets on disk, and configs that read them."""
import json
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config

SIZES = {'a': (40, 30), 'b': (24, 32), 'c': (16, 16)}  # width, height


def write_image(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def coco_content() -> dict:
    """Three images: two cells and a nucleus; a crowd; no objects."""
    def annotation(number: int, image: int, category: int, **more) -> dict:
        return dict(id=number, image_id=image, category_id=category, bbox=[2, 3, 8, 5], area=40, iscrowd=0,
                    segmentation=[[2, 3, 10, 3, 10, 8]]) | more
    return dict(
        images=[dict(id=i, file_name=f'{name}.png', width=width, height=height)
                for i, (name, (width, height)) in enumerate(SIZES.items(), start=1)],
        annotations=[annotation(1, 1, 7), annotation(2, 1, 7, bbox=[22, 3, 8, 5], segmentation=[[22, 3, 30, 3, 30, 8]]),
                      annotation(3, 1, 3), annotation(4, 2, 3, iscrowd=1)],
        categories=[dict(id=7, name='cell'), dict(id=3, name='nucleus')])


def write_coco(root: Path, content: dict | None = None, split: str = 'train') -> Path:
    """Writes a split in mmdet's layout. Returns its annotation file."""
    for name, size in SIZES.items():
        write_image(root / split / f'{name}.png', size)
    path = root / 'annotations' / f'{split}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco_content() if content is None else content), encoding='utf-8')
    return path


def coco_config(root: Path | str, *, masks: bool = True) -> Config:
    """A config like mmdet's own: with wrappers, and an evaluator with its own annotation file."""
    root = f'{root}/'

    def dataset(split: str, **more) -> dict:
        return dict(type='CocoDataset', data_root=root, ann_file=f'annotations/{split}.json',
                    data_prefix=dict(img=f'{split}/'), **more,
                    pipeline=[dict(type='LoadImageFromFile'),
                              dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)])
    evaluator = dict(type='CocoMetric', ann_file=root + 'annotations/val.json', metric=['bbox'] + ['segm'] * masks)
    train = dict(type='RepeatDataset', times=2, dataset=dict(
        type='MultiImageMixDataset', pipeline=[], dataset=dataset('train', filter_cfg=dict(filter_empty_gt=True))))
    test = dict(dataset=dataset('val', test_mode=True))
    return Config(dict(
        default_scope='mmdet', data_root=root, train_dataloader=dict(dataset=train), val_dataloader=test,
        test_dataloader=test, val_evaluator=evaluator, test_evaluator=evaluator,
        model=dict(type='CascadeRCNN', backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1),
                   roi_head=dict(bbox_head=[dict(num_classes=80), dict(num_classes=80)],
                                 mask_head=dict(num_classes=80, loss=dict(num_classes=80))))))


def write_label_maps(root: Path, split: str = 'training', labels: tuple[int, ...] = (0, 1, 2, 255)) -> None:
    """Writes three street scenes of three classes in mmseg's layout."""
    (root / 'classes.txt').parent.mkdir(parents=True, exist_ok=True)
    (root / 'classes.txt').write_text('sky\nroad\ncar\n', encoding='utf-8')
    for name, (width, height) in SIZES.items():
        write_image(root / 'images' / split / f'{name}.jpg', (width, height))
        label_map = np.resize(np.array(labels, np.uint8), (height, width))
        path = root / 'annotations' / split / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), label_map)


def label_map_config(root: Path | str, **options) -> Config:
    def loader(split: str) -> dict:
        return dict(dataset=dict(
            type='BaseSegDataset', data_root=str(root), **options,
            data_prefix=dict(img_path=f'images/{split}', seg_map_path=f'annotations/{split}'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='mmseg.LoadAnnotations')]))
    return Config(dict(
        default_scope='mmseg', data_root=str(root), train_dataloader=loader('training'),
        val_dataloader=loader('validation'), test_dataloader=loader('validation'),
        val_evaluator=dict(type='IoUMetric'), test_evaluator=dict(type='IoUMetric'),
        model=dict(decode_head=dict(num_classes=150), auxiliary_head=[dict(num_classes=150)])))


def write_class_folders(root: Path, split: str, classes: tuple[str, ...] = ('cat', 'dog')) -> None:
    for name in classes:
        write_image(root / split / name / '1.png')
        write_image(root / split / name / '2.png')


def class_folder_config(root: Path | str) -> Config:
    def loader(split: str) -> dict:
        return dict(dataset=dict(type='mae_backbone.ClassFolder', data_root=str(root), split=split, train=False))
    return Config(dict(
        data_root=str(root), train_dataloader=loader('train'), val_dataloader=loader('val'),
        test_dataloader=loader('val'), test_cfg=dict(type='mae_backbone.KNNLoop', bank=loader('train')),
        model=dict(type='mae_backbone.ViTClassifier', backbone={}, num_classes=1000)))
