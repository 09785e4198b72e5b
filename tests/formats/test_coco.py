import contextlib
import gc
import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from helpers.small_sets import SIZES, coco_config, coco_content, write_coco
from mmdet.registry import DATASETS
from mmengine.dataset import BaseDataset
from pycocotools import mask as coco_rle

from mae_backbone.formats.coco import _decompressed, check_coco, read_coco
from mae_backbone.formats.dataset_spec import DataError, Source, sources

JUNK = (None, True, -1, 0, 2.5, 10**400, float('nan'), '', 'text', [], {}, [1, 2], [1, 2, 3, float('inf')], 7, 99)


def source_of(path: Path, *, split: str = 'train', **more) -> Source:
    """The set that reads an annotation file, with classes that its categories have."""
    cfg = coco_config(path.parent.parent)
    source, = sources(cfg, split)
    source.cfg.update(dict(ann_file=str(path), data_prefix=dict(img='train/'),
                           metainfo=dict(classes=('cell', 'nucleus'))) | more)
    return source


def mmdet_of(path: Path, **more) -> BaseDataset:
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build(dict(
            type='CocoDataset', ann_file=str(path), data_prefix=dict(img=str(path.parent.parent / 'train')),
            metainfo=dict(classes=('cell', 'nucleus')), **more))


def refused(path: Path, *, masks: bool = False, labeled: bool = True, **more) -> str:
    with pytest.raises(DataError) as caught:
        check_coco(source_of(path, **more), masks=masks, labeled=labeled)
    return str(caught.value)


def scattered(seed: int) -> dict:
    """Many annotations of all kinds that mmdet treats differently."""
    chance, content = random.Random(seed), coco_content()
    content['categories'].insert(1, dict(id=5, name='not chosen'))
    content['annotations'] = [
        dict(id=i, image_id=chance.choice((1, 1, 2)), category_id=chance.choice((7, 3, 5)),
             bbox=[chance.choice((-9, 2.5, 39)), chance.choice((-1, 3, 50)), *chance.choices((0, 0.5, 1, 8), k=2)],
             area=chance.choice((-1, 0, 3)), **chance.choice(({}, {'iscrowd': 1}, {'ignore': 1}, {'iscrowd': 0})))
        for i in range(300)]
    return content


@pytest.mark.parametrize('seed', range(2))
def test_counts_are_those_of_mmdet(tmp_path: Path, seed: int) -> None:
    path = write_coco(tmp_path, scattered(seed))
    file, theirs = read_coco(str(path)), mmdet_of(path, test_mode=True)
    instances = [instance for image in theirs for instance in image['instances']]
    # Labels are numbered in the order of the file.
    assert [file.boxes[7], file.boxes[3]] == [sum(one['bbox_label'] == label for one in instances) for label in (0, 1)]
    assert file.crowds - sum(one['ignore_flag'] for one in instances) >= 0  # the third class has crowds too
    kept = mmdet_of(path, filter_cfg=dict(filter_empty_gt=True))
    assert len(file.annotated[7] | file.annotated[3]) == len(kept)
    lines = check_coco(source_of(path), masks=False, labeled=True)
    assert lines[0] == f'train: 3 images, {len(instances)} boxes of 2 classes'


@pytest.mark.parametrize('side', [0, 16, 17, 24, 25, 30])
@pytest.mark.parametrize('empty', [False, True])
def test_images_are_left_out_as_by_mmdet(tmp_path: Path, side: int, empty: bool) -> None:
    path, filters = write_coco(tmp_path), dict(filter_empty_gt=empty, min_size=side)
    lines = check_coco(source_of(path, filter_cfg=filters), masks=False, labeled=True)
    assert ('train: images without annotations, which training leaves out: 1' in lines) == empty
    small = sum(int(line.split()[-1]) for line in lines if line.startswith('train: images with a side below'))
    kept = mmdet_of(path, filter_cfg=filters)
    assert small == sum(min(size) < side for size in SIZES.values())
    assert len(kept) == 3 - (empty or small > 0) - max(0, small - 1)  # the image without annotations is the smallest
    assert 'all images with annotations have a side below 99' in refused(path, filter_cfg=dict(min_size=99))


@pytest.mark.parametrize('seed', range(3))
def test_what_passes_loads_in_mmdet(tmp_path: Path, seed: int) -> None:
    """Entries with anything in them are refused in words, or else mmdet reads them."""
    chance, passed = random.Random(seed), 0
    for i in range(40):
        content = coco_content()
        for _ in range(chance.choice((1, 1, 2))):
            spoil(content, chance)
        path = tmp_path / f'{i}.json'
        path.write_text(json.dumps(content), encoding='utf-8')
        try:
            read_coco(str(path))
        except DataError:
            continue
        mmdet_of(path)
        passed += 1
    assert 0 < passed < 40


def spoil(content: dict, chance: random.Random) -> None:
    key = chance.choice(list(content))
    if chance.random() < 0.2:
        content[key] = chance.choice((*JUNK, [1], [None]))
    elif isinstance(content[key], list) and content[key] and isinstance(content[key][0], dict):
        entry = chance.choice(content[key])
        name = chance.choice(list(entry) or ['id'])
        if chance.random() < 0.5:
            entry[name] = chance.choice(JUNK)
        else:
            entry.pop(name, None)


def test_whole_sets_pass(tmp_path: Path) -> None:
    lines = check_coco(source_of(write_coco(tmp_path)), masks=True, labeled=True)
    assert lines == ['train: 3 images, 4 boxes of 2 classes',
                     'train: images without annotations, which training leaves out: 1',
                     'train: boxes that stand for crowds, which count neither way: 1']


def test_reading_is_done_once_and_again_after_a_change(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    first = read_coco(str(path))
    assert read_coco(str(path)) is first
    path.write_text(json.dumps(coco_content() | {'annotations': []}), encoding='utf-8')
    assert not read_coco(str(path)).boxes
    assert gc.isenabled()


@pytest.mark.parametrize(('text', 'words'), [
    (b'', 'is empty'), (b'\x1f\x8b\x08\x00\xff', 'no JSON: it is not text at byte 1'),
    (b'version https://git-lfs', "begins with 'version https://git-lfs'"), (b'\xef\xbb\xbf{}', 'BOM'),
    (b'[' * 100_000, 'no JSON'), (b'[]', 'holds a list'), (b'{"info": 1}', "no list 'images', it holds the keys info"),
    (b'{"images": [], "categories": []}', "'images' is empty"),
    (b'{"images": [{"id": ' + b'9' * 5000 + b'}]}', 'no JSON')])
def test_files_that_are_no_annotations(tmp_path: Path, text: bytes, words: str) -> None:
    (tmp_path / 'x').mkdir()
    path = tmp_path / 'x' / 'train.json'
    path.write_bytes(text)
    assert words in refused(path)


def test_a_file_cut_off_anywhere_is_refused_as_such(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    text = path.read_text(encoding='utf-8')
    for length in range(1, len(text) - 1, 97):
        path.write_text(text[:length], encoding='utf-8')
        assert ('is cut off after' in refused(path)) == (not text[:length].endswith('}')), text[:length]


def test_a_missing_file_is_said_with_those_beside(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    assert 'holds train.json' in refused(path.with_name('instances_train.json'))


CHANGES = {
    'no area': (lambda c: c['annotations'][0].pop('area'), "1 of 4 annotations have no 'area' (id 1)"),
    'no bbox': (lambda c: c['annotations'][1].pop('bbox'), "have no 'bbox' (id 2)"),
    'NaN': (lambda c: c['annotations'][1].update(bbox=[0, 0, float('nan'), 1]), 'list of four finite numbers'),
    'three numbers': (lambda c: c['annotations'][1].update(bbox=[0, 0, 1]), 'list of four finite numbers'),
    'no size': (lambda c: [image.pop('width') for image in c['images']],
                "3 of 3 images have no 'width' (id 1, id 2, id 3)"),
    'no name': (lambda c: c['images'][0].update(file_name=''), "a 'file_name' that is not text"),
    'image ids': (lambda c: c['annotations'][2].update(image_id='1'), "(image_id '1'): add those images"),
    'category ids': (lambda c: [a.update(category_id=9) for a in c['annotations']],
                     '4 of 4 annotations name categories'),
    'image twice': (lambda c: c['images'][1].update(id=1), "1 of the ids in 'images' stand there more than once (1)"),
    'annotation twice': (lambda c: c['annotations'][1].update(id=1), "ids in 'annotations' stand there more than once"),
    'category twice': (lambda c: c['categories'][1].update(id=7), "ids in 'categories' stand there more than once"),
    'not objects': (lambda c: c['annotations'].append(5), 'something other than objects'),
    'no annotations': (lambda c: c['annotations'].clear(), 'none of its 3 images has a box of cell, nucleus'),
    'no list of them': (lambda c: c.pop('annotations'), "has no list 'annotations'"),
    'none of use': (lambda c: [a.update(area=0) for a in c['annotations']], 'none of its 3 images has a box'),
    'other order': (lambda c: c['categories'].reverse(),
                    'are not the 2 classes to train (cell, nucleus) in the same order'),
    'one less': (lambda c: (c['categories'].pop(), c['annotations'].__delitem__(slice(2, 4))),
                 'labels would be mixed up'),
    'files': (lambda c: c['images'][1].update(file_name='B.png'), 'train/B.png): copy them there'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_what_cannot_be_trained_on_is_refused_in_words(tmp_path: Path, change: str) -> None:
    spoiled, (do, words) = coco_content(), CHANGES[change]
    do(spoiled)
    message = refused(write_coco(tmp_path, spoiled))
    assert words in message
    assert len(message) < 600


def test_masks_are_asked_for_where_they_are_needed(tmp_path: Path) -> None:
    content = coco_content()
    del content['annotations'][0]['segmentation']
    content['annotations'][2]['segmentation'] = []
    path = write_coco(tmp_path, content)
    assert '2 annotations have no segmentation (id 1, 3)' in refused(path, masks=True)
    check_coco(source_of(path), masks=False, labeled=True)


def test_a_test_set_needs_no_annotations_to_predict(tmp_path: Path) -> None:
    content = coco_content()
    del content['annotations']
    source = source_of(write_coco(tmp_path, content))
    assert check_coco(source, masks=True, labeled=False) == ['train: 3 images, 0 boxes of 2 classes']


def test_a_missing_folder_of_images_is_said_once(tmp_path: Path) -> None:
    message = refused(write_coco(tmp_path), data_prefix=dict(img='train2017/'))
    assert 'train2017' in message
    assert 'holds annotations/, train/' in message


def test_classes_that_a_config_chooses_are_counted_alone(tmp_path: Path) -> None:
    content = coco_content()
    content['categories'].append(dict(id=11, name='never'))
    source = source_of(write_coco(tmp_path, content))
    source.cfg.metainfo = dict(classes=('nucleus', 'never'))
    assert check_coco(source, masks=False, labeled=True) == [
        'train: 3 images, 2 boxes of 2 classes', 'train: images without annotations, which training leaves out: 1',
        'train: boxes that stand for crowds, which count neither way: 1', 'train: classes without a box (never): 1']


def test_images_may_lie_in_folders_below(tmp_path: Path) -> None:
    content = coco_content()
    for image, name in zip(content['images'], SIZES, strict=True):
        image['file_name'] = f'../train/{name}.png'
    check_coco(source_of(write_coco(tmp_path, content)), masks=True, labeled=True)


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
def test_masks_are_taken_passed_over_or_refused_as_mmdet_can(tmp_path: Path, segmentation: object, fault: str) -> None:
    content = coco_content()
    content['annotations'][0]['segmentation'] = segmentation  # of an image of 40 x 30
    path = write_coco(tmp_path, content)
    check_coco(source_of(path), masks=False, labeled=True)  # boxes alone do not mind
    if fault == 'misfit':
        assert '1 annotations have a segmentation that is no mask of their image (id 1)' in refused(path, masks=True)
        return
    lines = '\n'.join(check_coco(source_of(path), masks=True, labeled=True))
    assert ('incomplete RLE, which count neither way: 1' in lines) == (fault == 'broken')
    assert ('some polygons have fewer than three points, and are left out: 1' in lines) == (fault == 'partial')
    if fault:  # at which pycocotools stops, or which it takes for something else than mmdet does
        assert 'the evaluation would stop' in refused(path, masks=True, split='val')


@pytest.mark.parametrize('seed', range(3))
def test_run_lengths_are_read_as_by_pycocotools(seed: int) -> None:
    chance = np.random.default_rng(seed)
    for height, width in ((1, 1), (30, 40), (700, 900)):
        for share in (0, 0.01, 0.5, 1):
            mask = np.asfortranarray(chance.random((height, width)) < share, np.uint8)
            if seed:
                mask[:, width // 2:] = 0  # a long run at the end
            edges = np.flatnonzero(np.diff(mask.T.ravel())) + 1
            runs = np.diff([0, *edges, mask.size]).tolist()
            lengths = [0, *runs] if mask[0, 0] else runs
            assert _decompressed(coco_rle.encode(mask)['counts'].decode()) == lengths


def test_masks_of_what_is_not_trained_on_are_not_asked_for(tmp_path: Path) -> None:
    content = coco_content()
    content['categories'].append(dict(id=9, name='not chosen'))
    content['annotations'].append(dict(content['annotations'][0], id=9, category_id=9, segmentation=[]))
    content['annotations'].append(dict(content['annotations'][0], id=10, area=0, segmentation=[]))
    path = write_coco(tmp_path, content)
    check_coco(source_of(path), masks=True, labeled=True)
    assert '1 annotations have no segmentation (id 10)' in refused(path, masks=True, split='val')  # COCOeval reads it


@pytest.mark.parametrize(('change', 'words'), [
    ({'id': 'a'}, '1 annotations have an id that is text'),
    ({'iscrowd': None}, "1 annotations have no 'iscrowd'")])
def test_what_the_metric_cannot_count_is_refused_where_it_is_evaluated(
        tmp_path: Path, change: dict, words: str) -> None:
    content = coco_content()
    first = content['annotations'][0]
    first.update(change)
    if first.get('iscrowd', 0) is None:
        del first['iscrowd']
    path = write_coco(tmp_path, content)
    check_coco(source_of(path), masks=False, labeled=True)
    assert words in refused(path, split='val')
    check_coco(source_of(path, split='val'), masks=False, labeled=False)


@pytest.mark.parametrize('change', [{}, {'id': 0}])
def test_the_metric_counts_all_with_ids_from_1_alone(tmp_path: Path, change: dict) -> None:
    """Many converters number from 0: pycocotools takes that object for not found, of which a line tells."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    content = coco_content()
    for one in content['annotations']:
        one['iscrowd'] = 0
    content['annotations'][0].update(change)
    with contextlib.redirect_stdout(io.StringIO()):
        path = write_coco(tmp_path, content)
        truth = COCO(path)
        found = truth.loadRes([dict(image_id=one['image_id'], category_id=one['category_id'], bbox=one['bbox'], score=1)
                               for one in content['annotations']])
        metric = COCOeval(truth, found, 'bbox')
        metric.evaluate()
        metric.accumulate()
        metric.summarize()
    assert (metric.stats[0] == 1) == (not change)
    lines = check_coco(source_of(path, split='val'), masks=True, labeled=True)
    assert any('annotations of the id 0' in line and line.endswith(': 1') for line in lines) == bool(change)


def test_boxes_beyond_their_image_are_counted(tmp_path: Path) -> None:
    content = coco_content()
    content['annotations'][0]['bbox'] = [35, 25, 40, 30]  # as if it were two corners, in an image of 40 x 30
    lines = check_coco(source_of(write_coco(tmp_path, content)), masks=False, labeled=True)
    assert 'train: boxes that reach beyond their image, where they are cut (bbox is x, y, width, height): 1' in lines


def test_what_is_counted_is_what_mmdet_trains_on(tmp_path: Path) -> None:
    from mmdet.datasets import CocoDataset
    content = coco_content()
    boxes = {'no height': [2, 3, 8, 0], 'left of it': [-20, 3, 8, 5], 'across the edge': [35, 25, 20, 20],
             'below it': [2, 90, 8, 5], 'thin': [2, 3, 0.5, 8], 'whole': [0, 0, 40, 30]}
    content['annotations'] += [dict(content['annotations'][0], id=100 + i, bbox=box)
                               for i, box in enumerate(boxes.values())]
    content['annotations'].append(dict(content['annotations'][0], id=200, area=0))
    path = write_coco(tmp_path, content)
    lines = check_coco(source_of(path), masks=True, labeled=True)
    dataset = CocoDataset(ann_file=str(path), data_prefix=dict(img=str(tmp_path)), pipeline=[], test_mode=True,
                          metainfo=dict(classes=('cell', 'nucleus')))
    instances = [one for i in range(len(dataset)) for one in dataset.get_data_info(i)['instances']]
    assert f'{len(instances)} boxes of 2 classes' in lines[0]
    assert 'outside of their image or marked "ignore", which are left out: 5' in '\n'.join(lines)
    assert f'which count neither way: {sum(one["ignore_flag"] for one in instances)}' in '\n'.join(lines)
