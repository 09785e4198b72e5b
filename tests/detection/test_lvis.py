"""LVIS: images named by URL, and AP with classes that are not annotated exhaustively."""
import json
from pathlib import Path

import pytest
import torch
from helpers.shrink import write_coco
from mmengine.config import Config

from mae_backbone.detection.lvis import LVISDataset, LVISMetric
from mae_backbone.formats.check import check_data
from mae_backbone.formats.dataset_spec import DataError

CLASSES = ('rare', 'frequent')


def write_truth(path: Path, *, negative: list[int], incomplete: list[int] = ()) -> Path:
    """One image with a box of class 1; class 2 is absent if it is in `negative`, else unknown."""
    box = [10, 10, 20, 20]
    path.write_text(json.dumps({
        'images': [{'id': 7, 'width': 64, 'height': 64, 'neg_category_ids': negative,
                    'not_exhaustive_category_ids': list(incomplete)},
                   {'id': 8, 'width': 64, 'height': 64, 'neg_category_ids': [], 'not_exhaustive_category_ids': []}],
        'categories': [{'id': 1, 'name': 'rare', 'frequency': 'r'}, {'id': 2, 'name': 'frequent', 'frequency': 'f'}],
        'annotations': [{'id': i, 'image_id': image, 'category_id': category, 'bbox': box, 'area': 400,
                         'segmentation': [[10, 10, 30, 10, 30, 30, 10, 30]]}
                        for i, (image, category) in enumerate([(7, 1), (8, 2)], start=1)]}))
    return path


def evaluate(path: Path, detections: dict[int, list[tuple[int, float, list[int]]]]) -> dict[str, float]:
    """Returns the metrics of boxes (label, score, x1 y1 x2 y2) by image id."""
    return evaluated(LVISMetric(str(path)), detections)


def evaluated(metric: LVISMetric, detections: dict[int, list[tuple[int, float, list[int]]]]) -> dict[str, float]:
    metric.dataset_meta = {'classes': CLASSES}
    metric.process({}, [{
        'img_id': image, 'ori_shape': (64, 64), 'pred_instances': {
            'bboxes': torch.tensor([box for *_, box in boxes], dtype=torch.float32).reshape(-1, 4),
            'scores': torch.tensor([score for _, score, _ in boxes]),
            'labels': torch.tensor([label for label, *_ in boxes], dtype=torch.long)}}
        for image, boxes in detections.items()])
    return metric.compute_metrics(metric.results)


RIGHT, ELSEWHERE = [10, 10, 30, 30], [40, 40, 60, 60]


@pytest.mark.parametrize(('negative', 'ap'), [([], 1.0), ([2], 0.5)])
def test_detections_of_unknown_classes_are_ignored(negative: list[int], ap: float, tmp_path: Path):
    truth = write_truth(tmp_path / 'truth.json', negative=negative)
    detections = {7: [(0, 0.9, RIGHT), (1, 0.8, ELSEWHERE)], 8: [(1, 0.7, RIGHT)]}
    values = evaluate(truth, detections)
    assert values['bbox_APf'] == pytest.approx(ap, abs=0.01)
    assert values['bbox_APr'] == pytest.approx(1.0)
    assert values['bbox_AP'] == pytest.approx((1 + ap) / 2, abs=0.01)


@pytest.mark.parametrize(('incomplete', 'ap'), [([1], 1.0), ([], 0.5)])
def test_unmatched_detections_of_incomplete_classes_are_ignored(incomplete: list[int], ap: float, tmp_path: Path):
    truth = write_truth(tmp_path / 'truth.json', negative=[], incomplete=incomplete)
    values = evaluate(truth, {7: [(0, 0.9, ELSEWHERE), (0, 0.8, RIGHT)], 8: []})
    assert values['bbox_APr'] == pytest.approx(ap, abs=0.01)


def test_each_class_has_a_row(tmp_path: Path):
    metric = LVISMetric(str(write_truth(tmp_path / 'truth.json', negative=[2])))
    values = evaluated(metric, {7: [(0, 0.9, RIGHT), (1, 0.8, ELSEWHERE)], 8: [(1, 0.7, RIGHT)]})
    assert list(metric.class_table) == ['rare', 'frequent']
    assert [row['objects'] for row in metric.class_table.values()] == [1, 1]
    for name, key in (('rare', 'bbox_APr'), ('frequent', 'bbox_APf')):
        assert metric.class_table[name]['bbox AP'] == pytest.approx(100 * values[key], abs=0.01)


def test_ap_without_detections_is_zero(tmp_path: Path):
    values = evaluate(write_truth(tmp_path / 'truth.json', negative=[]), {7: [], 8: []})
    assert set(values.values()) == {0.0}


def lvis_config(root: Path, name: str = 'mae_backbone.LVISDataset') -> Config:
    dataset = dict(type=name, data_root=f'{root}/', ann_file='annotations/lvis_v1_train.json',
                   data_prefix=dict(img=''), pipeline=[],
                   metainfo=dict(classes=('aerosol_can', 'air_conditioner')))
    return Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset)))


def test_file_names_come_from_urls(tmp_path: Path):
    write_coco(tmp_path, lvis=True)
    options = lvis_config(tmp_path).train_dataloader.dataset
    options.pop('type')
    dataset = LVISDataset(**options)
    assert [Path(dataset.get_data_info(i)['img_path']) for i in range(4)] == [
        tmp_path / 'train2017' / f'{i}.jpg' for i in range(4)]
    assert len(LVISDataset.METAINFO['classes']) == 1203


def test_check_data_reads_lvis(tmp_path: Path):
    write_coco(tmp_path, lvis=True)
    assert check_data(lvis_config(tmp_path), splits=['train'])[0] == 'train: 4 images, 4 boxes of 2 classes'
    with pytest.raises(DataError, match=r"4 of 4 images have no 'file_name'.*mae_backbone.LVISDataset"):
        check_data(lvis_config(tmp_path, 'CocoDataset'), splits=['train'])
    (tmp_path / 'train2017' / '2.jpg').unlink()
    with pytest.raises(DataError, match='1 of the 4 images'):
        check_data(lvis_config(tmp_path), splits=['train'])
