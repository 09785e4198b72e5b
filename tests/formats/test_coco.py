"""Checks of COCO data sets, compared with what mmdet and pycocotools do."""
import contextlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
from helpers.mmdet_datasets import coco_dataset
from helpers.small_sets import SIZES, coco_config, coco_content, write_coco
from PIL import Image
from pycocotools import mask as coco_rle

from mae_backbone.formats.coco import CocoFormat
from mae_backbone.formats.coco_file import read_coco
from mae_backbone.formats.dataset_spec import DataError, DatasetSpec, dataset_specs


def spec_of(path: Path, *, split: str = 'train', **options) -> DatasetSpec:
    """A data set that reads an annotation file, with the classes of its categories."""
    cfg = coco_config(path.parent.parent)
    spec, = dataset_specs(cfg, split)
    spec.cfg.update(dict(ann_file=str(path), data_prefix=dict(img='train/'),
                           metainfo=dict(classes=('cell', 'nucleus'))) | options)
    return spec


def check(path: Path, *, masks: bool = False, labels: bool = True, **options) -> list[str]:
    return CocoFormat(spec_of(path, **options)).check(masks=masks, labels=labels)


def refused(path: Path, *, masks: bool = False, labels: bool = True, **options) -> str:
    with pytest.raises(DataError) as caught:
        check(path, masks=masks, labels=labels, **options)
    return str(caught.value)


def scattered(seed: int) -> dict:
    """Many annotations of all kinds that mmdet treats differently."""
    rng, content = random.Random(seed), coco_content()
    content['categories'].insert(1, dict(id=5, name='not chosen'))
    content['annotations'] = [
        dict(id=i, image_id=rng.choice((1, 1, 2)), category_id=rng.choice((7, 3, 5)),
             bbox=[rng.choice((-9, 2.5, 39)) + i * 1e-6, rng.choice((-1, 3, 50)), *rng.choices((0, 0.5, 1, 8), k=2)],
             area=rng.choice((-1, 0, 3)), **rng.choice(({}, {'iscrowd': 1}, {'ignore': 1}, {'iscrowd': 0})))
        for i in range(300)]
    return content


@pytest.mark.parametrize('seed', range(2))
def test_counts_equal_mmdets(tmp_path: Path, seed: int) -> None:
    path = write_coco(tmp_path, scattered(seed))
    file, theirs = read_coco(str(path)), coco_dataset(path, test_mode=True)
    instances = [instance for image in theirs for instance in image['instances']]
    # Labels are numbered in the order of the file.
    labels = [instance['bbox_label'] for instance in instances if not instance['ignore_flag']]
    assert [file.num_boxes[7], file.num_boxes[3]] == [labels.count(0), labels.count(1)]
    # The third class has crowds, too.
    assert file.num_crowds.total() >= sum(instance['ignore_flag'] for instance in instances)
    kept = coco_dataset(path, filter_cfg=dict(filter_empty_gt=True))
    assert len(file.annotated_images[7] | file.annotated_images[3]) == len(kept)
    lines = check(path)
    assert lines[0] == f'train: 3 images, {len(labels)} boxes of 2 classes'


@pytest.mark.parametrize('side', [0, 16, 17, 24, 25, 30])
@pytest.mark.parametrize('empty', [False, True])
def test_filtered_images_equal_mmdets(tmp_path: Path, side: int, empty: bool) -> None:
    path, filters = write_coco(tmp_path), dict(filter_empty_gt=empty, min_size=side)
    lines = check(path, filter_cfg=filters)
    assert ('train: images without annotations, which training filters out (filter_empty_gt): 1' in lines) == empty
    small = sum(int(line.split()[-1]) for line in lines if line.startswith('train: images with a side below'))
    kept = coco_dataset(path, filter_cfg=filters)
    assert small == sum(min(size) < side for size in SIZES.values())
    assert len(kept) == 3 - (empty or small > 0) - max(0, small - 1)  # the image without annotations is the smallest
    assert 'all images with annotations have a side below 99' in refused(path, filter_cfg=dict(min_size=99))


def test_valid_data_pass(tmp_path: Path) -> None:
    lines = check(write_coco(tmp_path), masks=True)
    assert lines == ['train: 3 images, 3 boxes of 2 classes',
                     'train: images without annotations, which training filters out (filter_empty_gt): 1',
                     'train: boxes that mark crowds, which are ignored: 1']


def test_missing_file_names_its_neighbors(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    assert 'contains train.json' in refused(path.with_name('instances_train.json'))


CHANGES = {
    'no area': (lambda c: c['annotations'][0].pop('area'), "1 of 4 annotations have no 'area' (id 1)"),
    'no bbox': (lambda c: c['annotations'][1].pop('bbox'), "have no 'bbox' (id 2)"),
    'NaN': (lambda c: c['annotations'][1].update(bbox=[0, 0, float('nan'), 1]), 'list of four finite numbers'),
    'three numbers': (lambda c: c['annotations'][1].update(bbox=[0, 0, 1]), 'list of four finite numbers'),
    'no size': (lambda c: [image.pop('width') for image in c['images']],
                "3 of 3 images have no 'width' (id 1, id 2, id 3)"),
    'no name': (lambda c: c['images'][0].update(file_name=''), "a 'file_name' that is not text"),
    'image ids': (lambda c: c['annotations'][2].update(image_id='1'), "(image_id '1'): add these images"),
    'category ids': (lambda c: [a.update(category_id=9) for a in c['annotations']],
                     '4 of 4 annotations refer to categories'),
    'image twice': (lambda c: c['images'][1].update(id=1), "1 ids in 'images' occur more than once (1)"),
    'annotation twice': (lambda c: c['annotations'][1].update(id=1), "ids in 'annotations' occur more than once"),
    'category twice': (lambda c: c['categories'][1].update(id=7), "ids in 'categories' occur more than once"),
    'not objects': (lambda c: c['annotations'].append(5), 'something other than objects'),
    'no annotations': (lambda c: c['annotations'].clear(), 'none of its 3 images has a box of cell, nucleus'),
    'no list of them': (lambda c: c.pop('annotations'), "has no list 'annotations'"),
    'none of use': (lambda c: [a.update(area=0) for a in c['annotations']], 'none of its 3 images has a box'),
    'other order': (lambda c: c['categories'].reverse(),
                    'are not the 2 classes to train (cell, nucleus) in the same order'),
    'one less': (lambda c: (c['categories'].pop(), c['annotations'].__delitem__(slice(2, 4))),
                 'labels would be mixed up'),
    'other case': (lambda c: c['categories'][0].update(name='Cell'),
                   'Cell and cell differ only in upper and lower case'),
    'outside': (lambda c: [a.update(bbox=[900, 3, 8, 5]) for a in c['annotations']],
                'Boxes without area, outside of their image or marked "ignore": 4 (in a.png, b.png)'),
    'files': (lambda c: c['images'][1].update(file_name='B.png'), 'train/B.png): copy them there'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_unusable_annotations_are_refused(tmp_path: Path, change: str) -> None:
    spoiled, (do, words) = coco_content(), CHANGES[change]
    do(spoiled)
    message = refused(write_coco(tmp_path, spoiled))
    assert words in message
    assert len(message) < 600


def test_missing_masks_are_refused_if_required(tmp_path: Path) -> None:
    content = coco_content()
    del content['annotations'][0]['segmentation']
    content['annotations'][2]['segmentation'] = []
    path = write_coco(tmp_path, content)
    assert '2 annotations have no segmentation (id 1, 3)' in refused(path, masks=True)
    check(path)


def test_segmentations_that_are_all_empty_are_no_masks(tmp_path: Path) -> None:
    content = coco_content()
    for annotation in content['annotations']:
        annotation['segmentation'] = [[]]
    path = write_coco(tmp_path, content)
    assert not CocoFormat(spec_of(path)).has_masks
    assert 'segmentations are empty, have polygons with fewer than three points' in refused(path, masks=True)
    check(path)


def test_images_that_are_listed_twice_and_rotated_boxes_are_warned_of(tmp_path: Path) -> None:
    content = coco_content()
    assert not CocoFormat(spec_of(write_coco(tmp_path, content))).label_warnings()
    content['images'].append(content['images'][0] | dict(id=99))
    del content['annotations'][0]['segmentation']
    content['annotations'][0]['attributes'] = {'occluded': False, 'rotation': 30.0}
    content['annotations'][1]['attributes'] = {'rotation': 0.0}
    path = write_coco(tmp_path, content)
    warnings = CocoFormat(spec_of(path)).label_warnings()
    assert [warning.split(':')[1] for warning in warnings] == [
        ' image files that are listed more than once, so that objects of one entry are background in the others',
        ' objects with a rotation in "attributes", read as they are before the rotation']
    assert sum('listed more than once' in line or '"attributes"' in line for line in check(path)) == 2


def test_prediction_needs_no_annotations(tmp_path: Path) -> None:
    content = coco_content()
    del content['annotations']
    assert check(write_coco(tmp_path, content), masks=True, labels=False) == ['train: 3 images, 0 boxes of 2 classes']


def test_missing_image_folder_is_refused(tmp_path: Path) -> None:
    message = refused(write_coco(tmp_path), data_prefix=dict(img='train2017/'))
    assert 'train2017' in message
    assert 'contains annotations/, train/' in message


def test_only_the_chosen_classes_are_counted(tmp_path: Path) -> None:
    content = coco_content()
    content['categories'].append(dict(id=11, name='never'))
    spec = spec_of(write_coco(tmp_path, content))
    spec.cfg.metainfo = dict(classes=('nucleus', 'never'))
    assert CocoFormat(spec).check(masks=False, labels=True) == [
        'train: 3 images, 1 boxes of 2 classes',
        'train: images without annotations, which training filters out (filter_empty_gt): 1',
        'train: boxes that mark crowds, which are ignored: 1',
        'train: boxes of classes that are not in the config, which are left out (cell: 2): 2',
        'train: classes without a box (never): 1']


def test_images_may_be_in_subfolders(tmp_path: Path) -> None:
    content = coco_content()
    for image, name in zip(content['images'], SIZES, strict=True):
        image['file_name'] = f'../train/{name}.png'
    check(write_coco(tmp_path, content), masks=True)


SQUARE = [[2, 3, 10, 3, 10, 8, 2, 8]]


def compressed(height: int, width: int) -> str:
    """COCO's compressed RLE of many short and a few long runs."""
    mask = np.zeros((height, width), np.uint8)
    mask[3:20:2, 5:30:3] = 1
    return coco_rle.encode(np.asfortranarray(mask))['counts'].decode()


@pytest.mark.parametrize(('segmentation', 'fault'), [
    (SQUARE, ''), ([*SQUARE, [1, 2]], 'partial'), ([[2, 3, 10, 3]], 'broken'),
    ([[2, 3, 10, 3, 10, 8, 2]], 'broken'), ({'counts': 'abc'}, 'broken'), ({'size': [30, 40]}, 'broken'),
    ({'counts': [1200], 'size': [30, 40]}, ''), ({'counts': [0, 1200], 'size': [30, 40]}, ''),
    ({'counts': compressed(30, 40), 'size': [30, 40]}, ''),
    ({'counts': compressed(30, 40), 'size': [40, 30]}, 'misfit'),
    ({'counts': compressed(29, 40), 'size': [30, 40]}, 'misfit'),
    ({'counts': compressed(30, 40)[:-1], 'size': [30, 40]}, 'misfit'), ({'counts': 'X1', 'size': [30, 40]}, 'misfit'),
    ({'counts': '', 'size': [30, 40]}, 'misfit'), ({'counts': '\u20ac' * 9, 'size': [30, 40]}, 'misfit'),
    ({'counts': [], 'size': [30, 40]}, 'misfit'), ({'counts': [600, -600, 1200], 'size': [30, 40]}, 'misfit'),
    ({'counts': [1200.0], 'size': [30, 40]}, 'misfit'), ({'counts': [1200], 'size': [40, 30]}, 'misfit'),
    ({'counts': [7], 'size': [30, 40]}, 'misfit'), ('polygon', 'misfit'), ([2, 3, 10, 3, 10, 8], 'misfit'),
    ([['2', 3, 10, 3, 10, 8]], 'misfit'), ([[2, 3, 10, 3, 10, float('nan')]], 'misfit'),
    ([[2, 3, 10, None, 10, 8]], 'misfit')])
def test_masks_are_accepted_skipped_or_refused_as_in_mmdet(tmp_path: Path, segmentation: object, fault: str) -> None:
    content = coco_content()
    content['annotations'][0]['segmentation'] = segmentation  # of an image of 40 x 30
    path = write_coco(tmp_path, content)
    check(path)  # not read for boxes
    if fault == 'misfit':
        assert '1 annotations have a segmentation that is not a mask of their image (id 1)' in refused(path, masks=True)
        return
    lines = '\n'.join(check(path, masks=True))
    assert ('incomplete RLE, which are ignored: 1' in lines) == (fault == 'broken')
    assert ('some polygons of fewer than three points, which are dropped: 1' in lines) == (fault == 'partial')
    if fault:  # pycocotools fails at it, or reads it in another way than mmdet
        assert 'The evaluation would fail' in refused(path, masks=True, split='val')


def test_masks_of_untrained_annotations_are_not_required(tmp_path: Path) -> None:
    content = coco_content()
    content['categories'].append(dict(id=9, name='not chosen'))
    content['annotations'].append(dict(content['annotations'][0], id=9, category_id=9, segmentation=[]))
    content['annotations'].append(dict(content['annotations'][0], id=10, area=0, segmentation=[]))
    path = write_coco(tmp_path, content)
    check(path, masks=True)
    assert '1 annotations have no segmentation (id 10)' in refused(path, masks=True, split='val')  # COCOeval reads it


@pytest.mark.parametrize(('change', 'words'), [
    ({'id': 'a'}, '1 annotations have an id that is text'),
    ({'iscrowd': None}, "1 annotations have no 'iscrowd'")])
def test_annotations_that_the_metric_cannot_read_are_refused_in_evaluation(
        tmp_path: Path, change: dict, words: str) -> None:
    content = coco_content()
    first = content['annotations'][0]
    first.update(change)
    if first.get('iscrowd', 0) is None:
        del first['iscrowd']
    path = write_coco(tmp_path, content)
    check(path)
    assert words in refused(path, split='val')
    check(path, split='val', labels=False)


@pytest.mark.parametrize('change', [{}, {'id': 0}])
def test_annotation_id_zero_is_reported(tmp_path: Path, change: dict) -> None:
    """pycocotools counts an object with the id 0 as not detected, which a line reports: many converters start at 0."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    content = coco_content()
    for annotation in content['annotations']:
        annotation['iscrowd'] = 0
    content['annotations'][0].update(change)
    with contextlib.redirect_stdout(io.StringIO()):
        path = write_coco(tmp_path, content)
        truth = COCO(path)
        results = truth.loadRes([dict(image_id=annotation['image_id'], category_id=annotation['category_id'],
                                    bbox=annotation['bbox'], score=1)
                               for annotation in content['annotations']])
        metric = COCOeval(truth, results, 'bbox')
        metric.evaluate()
        metric.accumulate()
        metric.summarize()
    assert (metric.stats[0] == 1) == (not change)
    lines = check(path, split='val', masks=True)
    assert any('annotations with the id 0' in line and line.endswith(': 1') for line in lines) == bool(change)


def test_boxes_beyond_their_image_are_counted(tmp_path: Path) -> None:
    content = coco_content()
    content['annotations'][0]['bbox'] = [35, 25, 40, 30]  # as if it were two corners, in an image of 40 x 30
    lines = check(write_coco(tmp_path, content))
    assert ('train: boxes that reach beyond their image, where they are clipped (expected bbox: x, y, width, height): 1'
            in lines)


def test_counted_boxes_equal_the_boxes_that_mmdet_trains_on(tmp_path: Path) -> None:
    from mmdet.datasets import CocoDataset
    content = coco_content()
    boxes = {'no height': [2, 3, 8, 0], 'left of it': [-20, 3, 8, 5], 'across the edge': [35, 25, 20, 20],
             'below it': [2, 90, 8, 5], 'thin': [2, 3, 0.5, 8], 'whole': [0, 0, 40, 30]}
    content['annotations'] += [dict(content['annotations'][0], id=100 + i, bbox=box)
                               for i, box in enumerate(boxes.values())]
    content['annotations'].append(dict(content['annotations'][0], id=200, area=0))
    path = write_coco(tmp_path, content)
    lines = check(path, masks=True)
    dataset = CocoDataset(ann_file=str(path), data_prefix=dict(img=str(tmp_path)), pipeline=[], test_mode=True,
                          metainfo=dict(classes=('cell', 'nucleus')))
    instances = [instance for i in range(len(dataset)) for instance in dataset.get_data_info(i)['instances']]
    num_crowds = sum(instance['ignore_flag'] for instance in instances)
    assert f'{len(instances) - num_crowds} boxes of 2 classes' in lines[0]
    assert 'outside their image or marked "ignore", which are skipped: 5' in '\n'.join(lines)
    assert f'which are ignored: {num_crowds}' in '\n'.join(lines)


@pytest.mark.parametrize(('transforms', 'words'), [
    ([dict(type='Resize')], 'which training uses as background: 1'),
    ([dict(type='FilterAnnotations')],
     'which FilterAnnotations (without keep_empty=False) replaces by other images: 1'),
    ([dict(type='mmdet.RandomCrop', crop_size=9), dict(type='FilterAnnotations', keep_empty=False)],
     'which RandomCrop (without allow_negative_crop=True) replaces by other images: 1'),
    ([dict(type='RandomCrop', allow_negative_crop=True), dict(type='FilterAnnotations', keep_empty=False)],
     'which training uses as background: 1')])
def test_use_of_images_without_annotations_is_stated(tmp_path: Path, transforms: list[dict], words: str) -> None:
    write_coco(tmp_path)
    cfg = coco_config(tmp_path)
    cfg.train_dataloader.dataset.dataset.dataset.update(filter_cfg=dict(filter_empty_gt=False),
                                                        metainfo=dict(classes=('cell', 'nucleus')))
    cfg.train_dataloader.dataset.dataset.pipeline = transforms  # of the wrapper
    spec, = dataset_specs(cfg, 'train')
    assert f'train: images without annotations, {words}' in CocoFormat(spec).check(masks=True, labels=True)


def test_images_that_indices_leave_out_are_counted(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    assert check(path, indices=[0, 1])[-1] == 'train: only 2 of 3 images are used (indices in the config)'
    assert check(path, indices=1)[-1] == 'train: only 1 of 3 images are used (indices in the config)'


@pytest.mark.parametrize('name', ['/etc/hostname', '../../elsewhere/a.png', '../../../etc/hostname'])
def test_images_outside_of_the_data_root_are_refused(tmp_path: Path, name: str,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    content = coco_content()
    content['images'][0]['file_name'] = name
    path = write_coco(tmp_path / 'data', content)
    assert '1 of 3 images are outside of the data root' in refused(path)
    with pytest.raises(DataError, match='outside of the data root'):
        CocoFormat(spec_of(path)).images()
    monkeypatch.setenv('MAE_BACKBONE_ALLOW_OUTSIDE', '1')
    assert len(CocoFormat(spec_of(path)).images()) == 3


def write_rotated(root: Path, orientation: int) -> Path:
    """Writes image a, 40x30 as stated, stored upright or rotated by its EXIF orientation."""
    path = write_coco(root)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new('RGB', (40, 30)).save(root / 'train/a.png', exif=exif)
    return path


def test_images_annotated_as_stored_but_rotated_by_exif_are_refused(tmp_path: Path) -> None:
    path = write_rotated(tmp_path, 6)
    assert '1 of 3 images are rotated by their EXIF orientation, but annotated as they are stored' in refused(path)
    pipeline = [dict(type='LoadImageFromFile', color_type='color_ignore_orientation')]
    assert 'EXIF' not in ''.join(check(path, pipeline=pipeline))


@pytest.mark.parametrize('orientation', [2, 3, 4])
def test_images_mirrored_or_turned_upside_down_by_exif_are_counted(tmp_path: Path, orientation: int) -> None:
    path = write_rotated(tmp_path, orientation)
    assert check(path)[-1].startswith('train: images that are rotated or mirrored by their EXIF orientation')
    assert check(path)[-1].endswith(': 1')
